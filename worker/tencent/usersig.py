# UserSigs: signed with an app's key, cached, renewed at half of their life, and renewed early when one is refused.
#
# tls-sig-api-v2 validates nothing and turns bad input into a signature that is silently wrong: what can change, the key, is
# checked here, all else by the settings. The only I/O is reading the key file: it is tiny and local, so it is read
# synchronously.
# Not here: which codes are refusals (domain/contract/error_codes.py), and who retries (client.py).

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from TLSSigAPIv2 import TLSSigAPIv2

from worker.domain.contract.error_codes import LOCK_SECONDS
from worker.domain.effects import LogEvent
from worker.errors import FileError, SignatureError
from worker.redaction import Redaction
from worker.secret_key import KEY_FILE_BYTES, is_secret_key
from worker.small_files import read_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.tencent.client_options import AppCredentials

FORCED_EVERY: Final = 5.0
"""Seconds between two forced renewals with one key: a hot loop of bad signatures locks the app (70050)."""


@dataclass(frozen=True, slots=True)
class SignedUserSig:
    """
    One signature.

    Attributes:
        value: The UserSig: an administrator's credential.
        serial: Counts from 1; a later signature has a higher one.

    """

    value: str = field(repr=False)
    serial: int


class UserSigSigner:
    """
    The signatures of one app.

    Promises: ``signature()`` never returns one past half of its life; refusals lead to at most one forced renewal every
    ``FORCED_EVERY`` seconds (a changed key file: at once), and to none during Tencent's lockout (70050). The constructor
    raises SignatureError for a key that cannot be one; nothing raises it later. All else is judged by the settings.

    Two clocks: ``clock`` is wall time, by which Tencent judges a signature's age; ``timer`` is monotonic, for the pauses
    between renewals. ``redaction`` learns each key and signature before it is used.
    """

    def __init__(
        self,
        app: AppCredentials,
        clock: Callable[[], float] = time.time,
        *,
        timer: Callable[[], float] = time.monotonic,
        notice: Callable[[LogEvent], None] | None = None,
        redaction: Redaction | None = None,
    ) -> None:
        self._app = app
        self._clock = clock
        self._timer = timer
        self._notice = notice
        self._redaction = redaction or Redaction()
        self._key = _inline(app) if app.secret_key_file is None else self._read()
        self._redaction.learn(self._key)
        self._forced_at: float | None = None
        self._locked_at: float | None = None
        self._unproven = False
        self._current = self._sign(0)

    def signature(self) -> SignedUserSig:
        """Return the signature to use now; renew it first if it is due."""
        if self._locked_at is not None and not self._locked():
            self._locked_at = None
            self.reload()
            self._renew(forced=True)
        elif self._is_old():
            self.reload()
            self._renew(forced=False)
        return self._current

    def refused(self, serial: int) -> bool:
        """
        Note that Tencent refused the signature ``serial``. Return whether to retry; False if no signature will do.

        False only when the refused one was made by the last forced renewal, was never accepted since, and the key file
        still holds the same key.
        """
        if serial < self._current.serial:
            return True  # there is a newer one, which has not been refused
        if self._locked():
            return True  # nothing may be signed now; the first attempt after the lockout gets a new one
        if self.reload():
            self._renew(forced=True)
            return True
        if self._unproven:
            return False
        if self._may_force():
            self._renew(forced=True)
        return True

    def pause(self, serial: int) -> float:
        """
        Return the seconds until the refused signature ``serial`` may be replaced; 0 if it may now, or is.

        A lockout does not count: while it lasts, the engine lets no call of the app go.
        """
        if serial < self._current.serial or self._forced_at is None:
            return 0.0
        return max(0.0, self._forced_at + FORCED_EVERY - self._timer())

    def outdated(self, serial: int) -> bool:
        """
        Read the key again if ``serial`` is the signature in use. Return whether a newer signature is in use now.

        Then a verdict on the key of the old one says nothing about the key in use.
        """
        if serial == self._current.serial and not self._locked() and self.reload():
            self._renew(forced=True)
        return serial < self._current.serial

    def accepted(self, serial: int) -> None:
        """Note that Tencent accepted the signature ``serial``, whatever it said of the request."""
        if serial == self._current.serial:
            self._unproven = False

    def lock(self) -> None:
        """Note a lockout (70050): no forced renewal for ``LOCK_SECONDS``, then one at once."""
        self._locked_at = self._timer()

    def refresh_for_probe(self) -> None:
        """Read the key again and sign with it, for the probe of a halted app: somebody may have fixed the configuration."""
        changed = self.reload()
        if not self._locked() and (changed or self._may_force()):
            self._locked_at = None
            self._renew(forced=True)

    def reload(self) -> bool:
        """
        Read the key file again. Return whether it holds another key, which is used from the next renewal on.

        A file that cannot be read, or holds no key, changes nothing and is logged as ``signature.key_unreadable``.
        """
        if self._app.secret_key_file is None:
            return False
        try:
            key = self._read()
        except SignatureError as error:
            self._report("signature.key_unreadable", "warning", reason=str(error))
            return False
        if key == self._key:
            return False
        self._key = key
        self._redaction.learn(key)
        self._report("signature.key_changed", "info")
        return True

    def age(self) -> float:
        """Return the seconds since the signature in use was made."""
        return self._clock() - self._made_at

    def expires_in(self) -> float:
        """Return the seconds until the signature in use expires."""
        return self._app.lifetime - self.age()

    def __repr__(self) -> str:
        return (
            f"<UserSigSigner of {self._app.name}: signature {self._current.serial}, {self.age():.0f} s old>"
        )

    def _is_old(self) -> bool:
        # Below 0 our clock was set back, and Tencent would see a signature from the future.
        return not 0.0 <= self.age() < self._app.lifetime / 2

    def _locked(self) -> bool:
        return self._locked_at is not None and self._timer() - self._locked_at < LOCK_SECONDS

    def _may_force(self) -> bool:
        return self._forced_at is None or self._timer() - self._forced_at >= FORCED_EVERY

    def _renew(self, *, forced: bool) -> None:
        self._unproven = forced
        if forced:
            self._forced_at = self._timer()
        self._current = self._sign(self._current.serial)
        self._report("signature.renewed", "info", serial=self._current.serial, forced=forced)

    def _sign(self, serial: int) -> SignedUserSig:
        self._made_at = self._clock()
        value = TLSSigAPIv2(self._app.sdk_app_id, self._key).gen_sig(
            self._app.identifier, int(self._app.lifetime)
        )
        self._redaction.learn_signature(value, self._app.name)
        return SignedUserSig(value, serial + 1)

    def _read(self) -> str:
        path = self._app.secret_key_file
        assert path is not None
        try:
            text = read_text(path, KEY_FILE_BYTES)
        except FileError as error:
            raise SignatureError(f"{path} cannot be read: {error}") from None
        return _checked_key(text.strip(), str(path))

    def _report(self, event: str, level: str, **fields: object) -> None:
        if self._notice is not None:
            self._notice(LogEvent(event=event, level=level, fields={"app": self._app.name, **fields}))


def _inline(app: AppCredentials) -> str:
    assert app.secret_key is not None
    return _checked_key(app.secret_key, f"tencent.apps.{app.name}.secret_key")


def _checked_key(key: str, where: str) -> str:
    if not key:
        raise SignatureError(f"{where} is empty")
    if not is_secret_key(key):
        raise SignatureError(
            f"{where} is not a secret key: it holds spaces, quotation marks or other characters that no key has"
        )
    return key
