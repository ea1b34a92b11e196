# TLS files, read as a TLS client will read them: what OpenSSL cannot use is named, with the file at fault and the reason.
#
# Nothing is connected, and no file's content is shown. OpenSSL is never left to ask for a key's password at the terminal,
# where it would wait for ever.

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, Final

from worker.errors import FileError, SettingProblem
from worker.small_files import read_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PEM_BYTES: Final = 4 * 1024 * 1024
"""More than all of a system's certificate authorities take together."""
TLS_FILES: Final = frozenset({"ssl_cafile", "ssl_certfile", "ssl_keyfile"})
"""Options of the Kafka client that name a file."""
NO_CERTIFICATE: Final = "OpenSSL finds no certificate in this file"
ANOTHERS_KEY: Final = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")
"""OpenSSL's reasons for a key that does not belong to the certificate; the last one if they are of different kinds."""


def tls_problems(part: str, options: Mapping[str, Any]) -> Iterator[SettingProblem]:
    """Yield what is wrong with the TLS files of these options, whose secrets are bare."""
    files = {name: options[name] for name in sorted(TLS_FILES) if isinstance(options.get(name), str)}
    unreadable = [problem for name, path in files.items() if (problem := _unreadable(f"{part}.{name}", path))]
    if unreadable:
        yield from unreadable
        return
    if "ssl_cafile" in files:
        yield from authority_problem(f"{part}.ssl_cafile", files["ssl_cafile"])
    cert, key = files.get("ssl_certfile"), files.get("ssl_keyfile")
    if cert is not None:
        yield from _certificate(part, cert, key, options.get("ssl_password"))
    elif key is not None:
        yield SettingProblem(f"{part}.ssl_certfile", "is missing: without it ssl_keyfile has no effect")


def authority_problem(name: str, path: str) -> Iterator[SettingProblem]:
    """Yield why the file that the setting ``name`` gives cannot be used as certificate authorities, if it cannot."""
    if (problem := _unreadable(name, path)) is not None:
        yield problem
    elif not _holds_certificates(path):
        yield SettingProblem(name, NO_CERTIFICATE, path)


def _unreadable(name: str, path: str) -> SettingProblem | None:
    try:
        text = read_text(path, PEM_BYTES)
    except FileError as error:
        return SettingProblem(name, f"the file cannot be read ({error}): check the path and its rights", path)
    if "-----BEGIN " in text:
        return None
    return SettingProblem(name, "this is not a PEM file: it contains no -----BEGIN line", path)


def _certificate(part: str, cert: str, key: str | None, password: str | None) -> Iterator[SettingProblem]:
    encrypted = False

    def asked() -> str:
        nonlocal encrypted
        encrypted = True
        return password or ""

    try:
        _context().load_cert_chain(cert, key, asked)
    except (ssl.SSLError, OSError, ValueError) as error:
        holder = "ssl_certfile" if key is None else "ssl_keyfile"
        if encrypted:
            remedy = f"is missing: the key in {holder} is encrypted"
            if password is not None:
                remedy = f"it does not decrypt the key in {holder}"
            yield SettingProblem(f"{part}.ssl_password", remedy)
        elif not _holds_certificates(cert):
            yield SettingProblem(f"{part}.ssl_certfile", NO_CERTIFICATE, cert)
        elif getattr(error, "reason", None) in ANOTHERS_KEY:
            yield SettingProblem(
                f"{part}.{holder}", "this key does not belong to the certificate in ssl_certfile", key or cert
            )
        else:
            yield SettingProblem(f"{part}.{holder}", "OpenSSL finds no private key in this file", key or cert)


def _holds_certificates(path: str) -> bool:
    try:
        _context().load_verify_locations(path)
    except (ssl.SSLError, OSError):
        return False
    return True


def _context() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
