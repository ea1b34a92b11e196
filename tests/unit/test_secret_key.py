# Which texts can be a secret key of an app.

from __future__ import annotations

import pytest

from worker.secret_key import KEY_BYTES, is_secret_key


@pytest.mark.parametrize("text", ["x", "0123abcDEF", "a+b/c=", "x" * KEY_BYTES])
def test_a_text_of_ascii_is_a_key(text: str) -> None:
    assert is_secret_key(text)


@pytest.mark.parametrize(
    "text", ["", "two words", '"quoted"', "'quoted'", "a\nb", "ключ", "x" * (KEY_BYTES + 1)]
)
def test_what_no_key_can_be_is_none(text: str) -> None:
    assert not is_secret_key(text)
