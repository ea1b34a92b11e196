# Answers that nobody should send, drawn by a seed, and what may be kept of one. No test is here.

from __future__ import annotations

import gzip
import json
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from TLSSigAPIv2 import TLSSigAPIv2

from worker.domain.contract.outcomes import TEXT_BYTES
from worker.redaction import Redaction
from worker.tencent import answers

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

KEY: Final = "5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e"
SIGNATURE: Final = TLSSigAPIv2(1400000001, KEY).gen_sig("administrator", 86_400)
MOST: Final = 64 * 1024
"""What is read of an answer."""
SECONDS_A_MEGABYTE: Final = 0.05
LEAST_SECONDS: Final = 0.002
"""Of an answer that is too short for a rate to mean anything."""
PART: Final = 15
"""This many characters in a row of a secret may not be kept."""
_PARTS: Final = frozenset(
    secret.lower()[at : at + PART] for secret in (KEY, SIGNATURE) for at in range(len(secret) - PART + 1)
)

_PIECES: Final = (
    "usersig=", "usersig", "UserSig%3D", "secret_key", "password", "'password','", "\\", '\\"', '"', "'", " ", "\n", "\r", "\x1b[31m",
    "eJ", "eJx", "%25", "%", "=", ":", ",", "b'", "\u0130", "\u202e", "\u200b", "\ufffd", "垃圾", "😀", "x", "group not found", "\x00", KEY[:9],
)  # fmt: skip


def _long(draw: random.Random) -> str:
    pieces = draw.sample(_PIECES, draw.randint(1, 3))
    size = draw.choice(
        (0, 1, 7, 40, 100, 300, 600, 1_500, 3_000, 65_000) if draw.random() < 0.1 else (1, 40, 200, 600)
    )
    return ("".join(pieces) * (size // len("".join(pieces)) + 1))[:size]


def _secret(draw: random.Random) -> str:
    secret = draw.choice((KEY, SIGNATURE))
    part = secret[draw.randint(0, 20) :][: draw.choice((20, 40, 1_000))]
    size = draw.randint(6, 80)
    between = draw.choice(("\n", "\\n", "\\\\n", "\\", " ", "\r\n  ", '"\n"', "\u200b"))
    shapes: tuple[Callable[[str], str], ...] = (
        str,
        str.upper,
        lambda text: quote(text, safe=""),
        lambda text: quote(quote(text, safe=""), safe=""),
        lambda text: between.join(text[at : at + size] for at in range(0, len(text), size)),
        json.dumps,
        lambda text: repr(text.encode()),
    )
    return draw.choice(shapes)(part)


def _text(draw: random.Random) -> str:
    return "".join(draw.choice((_long, _secret, _long))(draw) for _ in range(draw.randint(1, 3)))


_CODES: Final = (
    "0", "70001", "-1", "1e0", "0.0", '"0"', "true", "null", "[0]", "{}", "9" * 400, "-" + "9" * 400, "1e999", "2147483648", "NaN", "0x0", "00", "",
)  # fmt: skip


def hostile(draw: random.Random) -> bytes:
    """One answer, of at most ``MOST`` bytes."""
    fields = [f'"ErrorCode":{draw.choice(_CODES[:3] if draw.random() < 0.7 else _CODES)}']
    for name in ("ErrorInfo", "RequestId", "ActionStatus", "Response", "Unknown"):
        kind = draw.random()
        if kind < 0.5:
            text = json.dumps(_text(draw), ensure_ascii=draw.random() < 0.5)
            fields.append(f'"{name}":{text}')
        elif kind < 0.55:
            depth = draw.choice((3, 100, 900, 1_100, 4_000))
            opening, closing = draw.choice((("[", "]"), ('{"RequestId":', "}")))
            fields.append(f'"{name}":{opening * depth}1{closing * draw.choice((depth, 0))}')
        elif kind < 0.6:
            fields.append(f'"{name}":{draw.choice(_CODES)}')
        elif kind < 0.63:
            fields.append(
                f'"{name}":"' + draw.choice(("\\ud800", "\\u0000", "\\x", "\\u12", "\\/")) * 50 + '"'
            )
    draw.shuffle(fields)
    if draw.random() < 0.1:
        fields = [*fields, fields[0]] * draw.choice((1, MOST // (2 * sum(map(len, fields))) + 1))
    body = ("{" + ",".join(fields) + "}").encode("utf-8", "surrogatepass")
    spoilt = draw.random()
    if spoilt < 0.1:
        body = body[: draw.randint(0, len(body))]
    elif spoilt < 0.2:
        place = draw.randint(0, len(body))
        body = (
            body[:place]
            + draw.choice((b"\xc3", b"\xff\xfe", b"\x00", b"\xed\xa0\x80", b"\x80" * 9))
            + body[place:]
        )
    elif spoilt < 0.23:
        body = gzip.compress(body, 1)
    elif spoilt < 0.26:
        body = draw.choice((b"\xef\xbb\xbf", b"<html>", b")]}'\n", b"\xff\xfe")) + body
    elif spoilt < 0.28:
        body = draw.randbytes(draw.choice((10, 1_000, MOST)))
    return body[:MOST]


@dataclass(frozen=True)
class Fault:
    """What was wrong with reading an answer."""

    what: str
    body: bytes


class Judge:
    """Reads answers as the client does, and finds what is wrong with the reading of one."""

    def __init__(self) -> None:
        self._redaction = Redaction([KEY])
        self._redaction.learn_signature(SIGNATURE)
        self.slowest = 0.0
        """Seconds a megabyte, of answers that are long enough for the rate to count."""
        self.read = 0

    def fault(self, body: bytes) -> Fault | None:
        try:
            took = self._seconds(body)
        except Exception as error:  # noqa: BLE001 - what is looked for
            return Fault(f"raised {error!r}", body)
        limit = max(LEAST_SECONDS, SECONDS_A_MEGABYTE * len(body) / 1e6)
        if took > limit:
            took = min(self._seconds(body) for _ in range(5))  # was it the machine?
        if limit > LEAST_SECONDS:
            self.slowest = max(self.slowest, took / len(body) * 1e6)
        if took > limit:
            return Fault(f"took {took * 1000:.1f} ms for {len(body)} bytes", body)
        found = answers.read(body, self._redaction)
        if found is None:
            return None
        self.read += 1
        for text in (found.error_info, found.request_id or ""):
            if len(text.encode()) > TEXT_BYTES:
                return Fault("kept too much", body)
            bare = re.sub(r"\\[nrt]|[\s\\\"']|[^\x00-\x7f]", "", text).lower()
            if any(bare[at : at + PART] in _PARTS for at in range(len(bare) - PART + 1)):
                return Fault(f"kept a part of a secret: {text!r}", body)
        return None

    def _seconds(self, body: bytes) -> float:
        began = time.thread_time()
        answers.read(body, self._redaction)
        return time.thread_time() - began
