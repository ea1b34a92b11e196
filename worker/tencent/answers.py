# What the text of an answer says: its code, its RequestId, its words, and how long to wait.
#
# Tolerant of everything but the one thing that matters: an integer ErrorCode. Texts that go on into outcomes and logs
# are cut and redacted here. Not here: what a secret looks like (redaction.py), what a code means (domain/contract/codes.py), how
# bytes arrive (wire.py).

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import Annotated, Any, Final

import msgspec

from worker.domain.contract.outcomes import TEXT_BYTES, cut
from worker.redaction import Redaction


class Answer(msgspec.Struct, frozen=True):
    """One readable answer."""

    error_code: int
    error_info: str
    request_id: str | None


class _Body(msgspec.Struct, rename="pascal"):
    # ActionStatus is not here: it may be missing, and says nothing that ErrorCode does not. The texts are Any, because
    # a success must not become a failure for a text of an unexpected type.
    error_code: Annotated[int, msgspec.Meta(ge=-(2**31), lt=2**31)]
    error_info: Any = ""
    request_id: Any = None
    response: Any = None


_DECODER: Final = msgspec.json.Decoder(_Body)
_LOOKS: Final = Redaction()
"""Knows no secret, and hides what looks like one."""


def read(body: bytes, redaction: Redaction = _LOOKS) -> Answer | None:
    """
    The answer that ``body`` is, or None when it is none: not JSON, or without an integer ``ErrorCode``.

    ``redaction`` knows the secrets that an answer may repeat.
    """
    found: _Body | None
    try:
        found = _DECODER.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        found = _read_broken_text(body)
    except RecursionError:
        return None
    if found is None:
        return None
    return Answer(found.error_code, _text(found.error_info, redaction), _request_id(found, redaction))


def _read_broken_text(body: bytes) -> _Body | None:
    # A text that was cut inside a character makes the whole body unreadable for a strict decoder.
    try:
        return _DECODER.decode(body.decode("utf-8", "replace"))
    except (msgspec.MsgspecError, RecursionError):
        return None


def _request_id(body: _Body, redaction: Redaction) -> str | None:
    found = body.request_id
    if found is None and isinstance(body.response, dict):
        found = body.response.get("RequestId")
    return (_text(found, redaction) or None) if isinstance(found, str) else None


def _text(value: object, redaction: Redaction) -> str:
    if not isinstance(value, str) or not value:
        return ""
    return cut(redaction.clean(value, TEXT_BYTES))


def retry_after(header: str | None, now: float, most: float) -> float | None:
    """
    The seconds that a ``Retry-After`` asks to wait, from 0 to ``most``, or None when it is missing or unreadable.

    ``now`` is in seconds since 1970: the header may name a date.
    """
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return min(float(text), most)
    try:
        return min(max(parsedate_to_datetime(text).timestamp() - now, 0.0), most)
    except (ValueError, TypeError, OverflowError):
        return None
