# Reads small files that people write: settings, keys, passwords. Whole, within a bound, and without blocking.
#
# The caller judges the content. Error texts never quote it: it may be a secret.

from __future__ import annotations

import os
import stat
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from typing import TYPE_CHECKING, Final

from worker.errors import FileError

if TYPE_CHECKING:
    from pathlib import Path

_KINDS: Final = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (lambda _mode: True, "a device"),
)


def read_text(path: str | Path, most_bytes: int) -> str:
    """
    Return the text of a regular UTF-8 file of at most ``most_bytes``, without a byte order mark.

    Raises FileError with the reason. Anything but a regular file is refused before it is read: a pipe without a writer
    would block, and /dev/zero never ends.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        raise FileError((error.strerror or "it cannot be opened").lower()) from None
    except ValueError:  # a NUL in its name, or characters that are no UTF-8
        raise FileError("no file can have this name") from None
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            kind = next(name for is_kind, name in _KINDS if is_kind(mode))
            raise FileError(f"it is {kind}, and must be a regular file")
        raw = _read(descriptor, most_bytes + 1)
    except OSError as error:
        raise FileError((error.strerror or "it cannot be read").lower()) from None
    finally:
        os.close(descriptor)
    if len(raw) > most_bytes:
        raise FileError(f"it has more than {most_bytes:,} bytes, so it is the wrong file")
    if raw.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        raise FileError("it is no UTF-8 text but UTF-16: save it as UTF-8")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise FileError("it is no UTF-8 text") from None


def _read(descriptor: int, most: int) -> bytes:
    read = bytearray()
    while len(read) < most and (chunk := os.read(descriptor, most - len(read))):
        read += chunk
    return bytes(read)
