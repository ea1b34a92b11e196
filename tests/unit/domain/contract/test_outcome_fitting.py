# What is left out of an outcome that does not fit: in which order, and that the last form is small whatever it held.

from __future__ import annotations

import hashlib
import itertools
from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.unit.domain.contract.test_json_schemas import EVERY_FIELD
from worker.domain.contract.outcome_fitting import SHORT, key_omitted, shorter_forms
from worker.domain.contract.raw_records import OmittedBytes

if TYPE_CHECKING:
    from worker.domain.contract.outcomes import Outcome

BARE = msgspec.structs.replace(EVERY_FIELD, action=None, app=None, issuer=None, error=None)


def size(outcome: Outcome) -> int:
    return len(msgspec.json.encode(outcome))


@pytest.mark.parametrize("outcome", [EVERY_FIELD, BARE], ids=["every field", "bare"])
def test_the_forms_get_smaller_and_the_key_goes_before_the_results(outcome: Outcome) -> None:
    forms = list(shorter_forms(outcome, has_key=True))

    assert [has_key for _, has_key in forms] == [True] * 3 + [False] * 6
    sizes = [size(form) for form, _ in forms]
    assert sizes[:3] == sorted(sizes[:3], reverse=True)
    assert sizes[3:] == sorted(sizes[3:], reverse=True)
    assert all(form.results for form, _ in forms[:-1])


def test_history_goes_piece_by_piece_and_what_is_left_out_is_counted() -> None:
    whole = msgspec.structs.replace(EVERY_FIELD, calls_omitted=3)

    without_calls, without_texts, without_metadata = (
        form for form, has_key in shorter_forms(whole, has_key=True) if has_key
    )

    assert (without_calls.calls, without_calls.calls_omitted) == ([], 3 + len(whole.calls))
    assert any(result.error_info for result in without_calls.results)
    assert not any(result.error_info for result in without_texts.results)
    assert without_texts.metadata == whole.metadata
    assert (without_metadata.metadata, without_metadata.request_ids) == (None, [])


def test_without_a_key_no_form_is_tried_twice() -> None:
    forms = [form for form, _ in shorter_forms(EVERY_FIELD, has_key=False)]

    assert len(forms) == 5
    assert all(one != other for one, other in itertools.pairwise(forms))


def test_the_last_form_counts_the_results_and_cuts_every_text() -> None:
    long = msgspec.structs.replace(EVERY_FIELD, action="a" * 10**6, app="b" * 10**6, issuer="c" * 256)

    *_, (last, has_key) = shorter_forms(long, has_key=True)

    assert not has_key
    assert (last.results, last.results_omitted, last.parameters) == ([], len(long.results), None)
    assert (last.action, last.app, last.issuer) == ("a" * SHORT, "b" * SHORT, "c" * SHORT)
    assert (last.outcome_id, last.command_id, last.status) == (long.outcome_id, long.command_id, long.status)


def test_a_key_that_is_left_out_is_noted_by_size_and_hash() -> None:
    digest = hashlib.sha256(b"room").hexdigest()

    assert key_omitted(b"room") == [("x-key-omitted", b"4"), ("x-key-sha256", digest.encode())]
    assert key_omitted(OmittedBytes(4, digest)) == key_omitted(b"room")
