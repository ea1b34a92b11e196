# Reads and verifies UserSigs: what a signature says, and whether the app's key made it.
#
# The format is Tencent's TLSSigAPIv2: JSON, zlib, base64 with `+/=` written as `*-_`; inside it an HMAC-SHA256 over the
# named lines. A signature is an administrator's credential: nothing here may print or keep one beyond the cache.

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import zlib
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

import msgspec

EXPIRED: Final = 70001
EMPTY: Final = 70002
UNREADABLE: Final = 70003
OTHER_KEY: Final = 70009
OTHER_IDENTIFIER: Final = 70013
OTHER_APP: Final = 70014

_PLAIN: Final = str.maketrans("*-_", "+/=")
_LONGEST_JSON: Final = 8192
"""Bytes. No honest signature is longer; the limit stops zip bombs."""
_CACHED: Final = 256
"""Signatures whose check is cached: a worker uses one for hours."""


@dataclass(frozen=True, slots=True)
class SimulatedApp:
    """
    One app known to the simulator.

    Attributes:
        sdk_app_id: The SDKAppID.
        keys: The accepted secret keys; two during a rotation.
        identifiers: The app's administrators.

    """

    sdk_app_id: int
    keys: tuple[str, ...] = field(repr=False)
    identifiers: tuple[str, ...] = ("administrator",)


class _Signed(msgspec.Struct, frozen=True, rename=lambda name: f"TLS.{name}"):
    """The content of a UserSig."""

    identifier: str
    sdkappid: int
    time: int
    expire: int
    sig: str
    userbuf: str | None = None

    def content(self) -> bytes:
        lines = (
            f"TLS.identifier:{self.identifier}\nTLS.sdkappid:{self.sdkappid}\n"
            f"TLS.time:{self.time}\nTLS.expire:{self.expire}\n"
        )
        return (lines if self.userbuf is None else f"{lines}TLS.userbuf:{self.userbuf}\n").encode()

    def made_with(self, key: str) -> bool:
        digest = hmac.new(key.encode(), self.content(), hashlib.sha256).digest()
        # Of texts it compares only ASCII, and the other one is what somebody has sent.
        return hmac.compare_digest(base64.b64encode(digest), self.sig.encode())


_DECODER: Final = msgspec.json.Decoder(_Signed)


def _open(usersig: str) -> _Signed | None:
    """Return the content of a signature, or None if it is not one."""
    try:
        packed = base64.b64decode(usersig.translate(_PLAIN), validate=True)
        stream = zlib.decompressobj()
        content = stream.decompress(packed, _LONGEST_JSON)
        return _DECODER.decode(content) if stream.eof else None  # otherwise it is truncated or too long
    except (binascii.Error, zlib.error, msgspec.DecodeError, ValueError, RecursionError):
        return None


class SignatureVerifier:
    """Checks signatures for one app. Expiry is checked each time; the rest is cached per signature."""

    def __init__(self, app: SimulatedApp) -> None:
        self._app = app
        self._seen: OrderedDict[str, tuple[_Signed | None, bool]] = OrderedDict()

    def __repr__(self) -> str:
        return f"<SignatureVerifier {self._app.sdk_app_id}>"

    def check(self, usersig: str, identifier: str, wall: float) -> int:
        """Return the error code for a signature that ``identifier`` presents at ``wall`` (seconds since 1970); 0 if it is valid."""
        if not usersig:
            return EMPTY
        signed, by_key = self._look(usersig)
        if signed is None:
            return UNREADABLE
        if signed.sdkappid != self._app.sdk_app_id:
            return OTHER_APP
        if signed.identifier != identifier:
            return OTHER_IDENTIFIER
        if not by_key:
            return OTHER_KEY
        return EXPIRED if wall >= signed.time + signed.expire else 0

    def _look(self, usersig: str) -> tuple[_Signed | None, bool]:
        found = self._seen.get(usersig)
        if found is None:
            signed = _open(usersig)
            by_key = signed is not None and any(signed.made_with(key) for key in self._app.keys)
            found = self._seen[usersig] = (signed, by_key)
            if len(self._seen) > _CACHED:
                self._seen.popitem(last=False)
        return found
