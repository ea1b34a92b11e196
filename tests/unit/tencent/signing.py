# A signer on a clock that a test turns, and a reader of signatures that shares no code with their maker.

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from worker.tencent.client_options import AppCredentials
from worker.tencent.usersig import UserSigSigner

if TYPE_CHECKING:
    from worker.domain.effects import LogEvent

KEY = "5bd2850f" * 8
OTHER_KEY = "aa11bb22" * 8
DAY = 86_400.0
APP = AppCredentials("main", 1400000001, "administrator", "https://console.tim.qq.com", secret_key=KEY)


@dataclass(slots=True)
class Clock:
    """Wall time and monotonic time, which pass together unless a test sets the wall clock."""

    wall: float = 1_750_000_000.0
    monotonic: float = 500.0

    def passes(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds


@dataclass(slots=True)
class Bench:
    """A signer with its clock and what it logged."""

    app: AppCredentials = APP
    clock: Clock = field(default_factory=Clock)
    logged: list[LogEvent] = field(default_factory=list)
    signer: UserSigSigner = field(init=False)

    def __post_init__(self) -> None:
        self.signer = UserSigSigner(
            self.app,
            clock=lambda: self.clock.wall,
            timer=lambda: self.clock.monotonic,
            notice=self.logged.append,
        )

    @property
    def serial(self) -> int:
        return self.signer.signature().serial

    @property
    def events(self) -> list[str]:
        return [event.event for event in self.logged]


def opened(usersig: str) -> dict[str, object]:
    """Return the content of a UserSig, read without the library that made it."""
    packed = base64.b64decode(usersig.replace("*", "+").replace("-", "/").replace("_", "="), validate=True)
    content: dict[str, object] = json.loads(zlib.decompress(packed))
    return content


def made_with(usersig: str, key: str) -> bool:
    content = opened(usersig)
    lines = "".join(
        f"{name}:{content[name]}\n" for name in ("TLS.identifier", "TLS.sdkappid", "TLS.time", "TLS.expire")
    )
    digest = hmac.new(key.encode(), lines.encode(), hashlib.sha256).digest()
    return base64.b64encode(digest).decode() == content["TLS.sig"]


def renew(bench: Bench) -> int:
    """Have the current signature refused and renewed; return the new serial."""
    assert bench.signer.refused(bench.serial)
    return bench.serial


def write_key(bench: Bench, key: str) -> None:
    path = bench.app.secret_key_file
    assert path is not None
    path.write_text(f"{key}\n")
