# A certificate that signs itself, and its key, for tests whose settings must name real files of TLS. No test is here.

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from tests.openssl import openssl


class Authority:
    """Signs certificates. Its own, and what it signs, are PEM."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder / name
        self._folder.mkdir()
        self._openssl(
            "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 2 -subj", f"/CN={name}"
        )
        self.certificate = (self._folder / "ca.crt").read_text()

    def signed(self, name: str) -> tuple[str, str]:
        """A certificate for this name and 127.0.0.1, and its key."""
        self._openssl("req -newkey rsa:2048 -nodes -keyout key -out request -subj", f"/CN={name}")
        (self._folder / "more").write_text("subjectAltName=IP:127.0.0.1")
        self._openssl(
            "x509 -req -in request -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile more -out crt"
        )
        return (self._folder / "crt").read_text(), (self._folder / "key").read_text()

    def _openssl(self, command: str, *more: str) -> None:
        openssl(*command.split(), *more, folder=self._folder)


@cache
def self_signed(subject: str = "/CN=kafka", *extensions: str) -> tuple[str, str]:
    """The certificate and its key, as PEM; the same for the whole run."""
    command = "req -x509 -newkey rsa:2048 -nodes -keyout key -out certificate -days 2 -subj"
    more = (word for each in extensions for word in ("-addext", each))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        openssl(*command.split(), subject, *more, folder=folder)
        return (folder / "certificate").read_text(), (folder / "key").read_text()
