# How an outcome whose record would not fit is cut down, step by step; the last step always fits.
#
# The sizes of records are computed in broker/producer_records.py; dead letters are cut down in dead_letter_encoding.py.

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from msgspec import structs

from worker.domain.contract.outcomes import OutcomeError, Result
from worker.domain.contract.raw_records import OmittedBytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.domain.contract.outcomes import Outcome

SHORT: Final = 100
"""Characters of a foreign text in the smallest outcome: all of them together stay below ``dead_letters.SMALLEST_LIMIT``."""


def shorter_forms(outcome: Outcome, *, has_key: bool) -> Iterator[tuple[Outcome, bool]]:
    """
    Yield ever smaller forms of the outcome, each with whether its record keeps the command's key.

    First its history is left out: the calls, then the texts of results, then metadata and RequestIds. When the key is too long for the
    rest, the key is left out instead, and the history is kept as far as possible. If that does not fit, each result keeps the user, the
    status and the code; at last the results are only counted.
    """
    history = [outcome, *_without_history(outcome)]
    for form in history[1:]:
        yield form, has_key
    if has_key:
        for form in history:
            yield form, False
    plain = structs.replace(
        history[-1],
        results=[
            Result(result.user_id, result.status, error_code=result.error_code) for result in outcome.results
        ],
    )
    yield plain, False
    yield _smallest(plain), False


def key_omitted(key: bytes) -> list[tuple[str, bytes]]:
    """Return the headers that tell of a key that is left out, as in dead letters."""
    size, digest = (
        (key.size, key.sha256)
        if isinstance(key, OmittedBytes)
        else (len(key), hashlib.sha256(key).hexdigest())
    )
    return [("x-key-omitted", b"%d" % size), ("x-key-sha256", digest.encode())]


def _without_history(outcome: Outcome) -> Iterator[Outcome]:
    form = structs.replace(outcome, calls=[], calls_omitted=outcome.calls_omitted + len(outcome.calls))
    yield form
    form = structs.replace(
        form, results=[structs.replace(result, error_info=None) for result in form.results]
    )
    yield form
    error = form.error and structs.replace(form.error, also=())
    yield structs.replace(form, metadata=None, request_ids=[], user_ids=(), error=error)


def _smallest(outcome: Outcome) -> Outcome:
    error = outcome.error
    return structs.replace(
        outcome,
        action=_short(outcome.action),
        app=_short(outcome.app),
        issuer=_short(outcome.issuer),
        parameters=None,
        results=[],
        results_omitted=len(outcome.results),
        error=error and OutcomeError(error.code, error.message[:SHORT], _short(error.field)),
    )


def _short(text: str | None) -> str | None:
    return text and text[:SHORT]
