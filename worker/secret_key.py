# What a secret key of an app may be: one rule for the settings at the start and for a key file that is read again.

from __future__ import annotations

from typing import Final

KEY_BYTES: Final = 4096
"""A longer text is no key."""
KEY_FILE_BYTES: Final = 2 * KEY_BYTES
"""The longest key file: a longer one is the wrong file, even if there are blank lines around the key."""
_NO_KEY: Final = frozenset(" '\"")
"""Characters of no key: a blank comes from a word before it, quotation marks from a file that was written as settings are."""


def is_secret_key(text: str) -> bool:
    """Return whether a text can be a secret key. The signing library would sign with any text, silently."""
    return 0 < len(text) <= KEY_BYTES and text.isascii() and text.isprintable() and not set(text) & _NO_KEY
