# Reads answers: error code, RequestId, error text, and how long to wait.
#
# Tolerant of everything except the one thing that matters: an integer ErrorCode. Texts that go into outcomes and logs are
# cut and redacted here. Not here: what a secret looks like (redaction.py), what a code means (domain/contract/error_codes.py),
# how bytes arrive (http_transport.py).

from __future__ import annotations

import json
import re
from codecs import BOM_UTF8
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Annotated, Final
from urllib.parse import urlsplit

import msgspec

from worker.domain.contract.outcomes import TEXT_BYTES, cut
from worker.redaction import Redaction


class Answer(msgspec.Struct, frozen=True):
    """One readable answer."""

    error_code: int
    error_info: str
    request_id: str | None


class _Body(msgspec.Struct, rename="pascal"):
    # No ActionStatus: it may be missing, and says nothing that ErrorCode does not. The texts are raw, so that a text of an
    # unexpected type does not turn a success into a failure.
    error_code: Annotated[int, msgspec.Meta(ge=-(2**31), lt=2**31)]
    error_info: msgspec.Raw = msgspec.Raw(b"")
    request_id: msgspec.Raw = msgspec.Raw(b"")
    response: msgspec.Raw = msgspec.Raw(b"")


class _NestedResponse(msgspec.Struct, rename="pascal"):
    request_id: msgspec.Raw = msgspec.Raw(b"")


_DECODER: Final = msgspec.json.Decoder(_Body)
_KNOWS_NO_SECRET: Final = Redaction()
"""Has learnt no secret, and hides whatever looks like one."""
_HOST: Final = re.compile(r"[A-Za-z0-9._:-]{1,253}")
"""A host that a foreign redirect may name in our texts."""


def read(body: bytes, redaction: Redaction = _KNOWS_NO_SECRET) -> Answer | None:
    """
    Parse ``body``. Return None when it is no answer of Tencent's: not JSON, or without an integer ``ErrorCode``.

    ``redaction`` knows the secrets that an answer may echo.
    """
    found: _Body | None
    body = body.removeprefix(BOM_UTF8)
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
    # One text that was cut inside a character (in UTF-8 or between two surrogates), or that has a bare line break in it, makes the
    # whole body unreadable for a strict decoder.
    try:
        lenient = json.loads(body.decode("utf-8", "replace"), strict=False, parse_constant=lambda _: None)
        mended = json.dumps(lenient, ensure_ascii=False).encode("utf-16", "surrogatepass")
        return _DECODER.decode(mended.decode("utf-16", "replace"))
    except (ValueError, msgspec.MsgspecError, RecursionError):
        return None


def _request_id(body: _Body, redaction: Redaction) -> str | None:
    found = body.request_id
    if bytes(found) in {b"", b"null"}:
        try:
            found = msgspec.json.decode(bytes(body.response) or b"{}", type=_NestedResponse).request_id
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
    return _text(found, redaction) or None


def _text(raw: msgspec.Raw, redaction: Redaction) -> str:
    written = bytes(raw)
    if not written.startswith(b'"'):
        return ""
    try:  # a text may have been cut inside a character
        text = msgspec.json.decode(written.decode("utf-8", "replace"), type=str)
    except msgspec.MsgspecError:
        return ""
    return cut(redaction.clean(text, TEXT_BYTES))


def describe_foreign(
    status: int, body: bytes | None, location: str | None, redaction: Redaction = _KNOWS_NO_SECRET
) -> str:
    """
    Describe an answer that is not Tencent's. Of ``location`` only the host is shown: the rest may hold the signature.

    A ``body`` of None was too long to be read.
    """
    text = f"HTTP {status}"
    if 300 <= status < 400:
        text += f" to {_host(location, redaction)}"
    elif 200 <= status < 300:
        text += f" with {_kind(body)}"
    # A 5xx may be Tencent's own; any other status without an ErrorCode comes from something on the way.
    return text if status >= 500 else f"{text}: a proxy or gateway answers in Tencent's place"


def _host(location: str | None, redaction: Redaction) -> str:
    if location is None:
        return "nowhere"
    try:
        split = urlsplit(location)
        host, port = split.hostname, split.port
    except ValueError:
        return "an unreadable address"
    if host is None:
        return "another path of the same host"
    named = host if port is None else f"{host}:{port}"
    return redaction.clean(named, TEXT_BYTES) if _HOST.fullmatch(named) else "an unreadable address"


def _kind(body: bytes | None) -> str:
    if body is None:
        return "a body longer than any answer"
    start = body.removeprefix(BOM_UTF8).lstrip()[:1]
    if not start:
        return "an empty body"
    if start == b"<":
        return "a page of HTML"
    return "JSON without an ErrorCode that is valid" if start in b"{[" else "a body that is no JSON"


def retry_after(header: str | None, now: float, most: float) -> float | None:
    """
    Return the seconds that a ``Retry-After`` header asks to wait, at most ``most``; None when it is missing or unreadable.

    ``now`` is in seconds since 1970, because the header may name a date.
    """
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return min(float(text), most)
    try:
        date = parsedate_to_datetime(text)
        # HTTP's dates are in UTC; in two of their forms nothing says so.
        moment = date if date.tzinfo is not None else date.replace(tzinfo=UTC)
        return min(max(moment.timestamp() - now, 0.0), most)
    except (ValueError, TypeError, OverflowError):
        return None
