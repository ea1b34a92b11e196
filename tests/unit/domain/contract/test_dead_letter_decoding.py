# Dead letters read back: the original comes out unchanged, and what is no dead letter is refused with a reason.

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from worker.domain.contract.dead_letter_decoding import NEEDED, NotADeadLetter, ParsedDeadLetter, read_letter
from worker.domain.contract.dead_letter_encoding import SMALLEST_LIMIT, DeadLetter, fit


class Original(Struct):
    """A record of the command topic."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]] = []
    partition: int = 3
    offset: int = 7


def letter_of(original: Original, limit: int = 1_000_000) -> ParsedDeadLetter | NotADeadLetter:
    fitted = fit(DeadLetter(original, "commands", "commands-3-7", "10019", "no such account"), limit)
    return read_letter(fitted.key, fitted.value, fitted.headers)


HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["ce_id", "x-error-code", "x-outcome-id", "traceparent"]), st.binary(max_size=5)
    )
)


@given(st.none() | st.binary(max_size=9), st.none() | st.binary(max_size=9), HEADERS)
def test_what_was_fitted_is_read_back(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]]
) -> None:
    """Also if the original has headers of our names."""
    read = letter_of(Original(key, value, headers))

    assert isinstance(read, ParsedDeadLetter)
    assert (read.key, read.value) == (key, value)
    assert read.headers == tuple(headers)
    assert (read.error_code, read.error_message) == ("10019", "no such account")
    assert (read.topic, read.partition, read.offset) == ("commands", 3, 7)
    assert (read.outcome_id, read.omitted) == ("commands-3-7", ())


def test_a_null_header_comes_back_empty() -> None:
    read = letter_of(Original(b"k", b"v", [("a", None)]))

    assert isinstance(read, ParsedDeadLetter)
    assert read.headers == (("a", b""),)


def test_a_header_that_another_client_has_made_null_is_read_as_empty() -> None:
    """A copy of a letter may have one, and a replay could not send it."""
    headers = [(name, b"1") for name in NEEDED]

    read = read_letter(b"k", b"v", [("a", None), *headers])

    assert isinstance(read, ParsedDeadLetter)
    assert read.headers == (("a", b""),)


def test_what_was_left_out_is_known() -> None:
    read = letter_of(Original(b"k", b"v" * 2 * SMALLEST_LIMIT), SMALLEST_LIMIT)

    assert isinstance(read, ParsedDeadLetter)
    assert read.omitted == ("value",)


@pytest.mark.parametrize("missing", NEEDED)
def test_without_one_of_its_headers_it_is_no_letter_of_ours(missing: str) -> None:
    headers = [(name, b"1") for name in NEEDED if name != missing]

    assert read_letter(b"k", b"v", headers) == NotADeadLetter(f"it has no header {missing}")


@pytest.mark.parametrize("number", [b"", b"x", b"-1", b"1" * 20, "٣".encode(), b"\xff"])
def test_a_place_that_is_no_number_is_no_letter_of_ours(number: bytes) -> None:
    headers = [(name, number if "offset" in name else b"1") for name in NEEDED]

    read = read_letter(b"k", b"v", headers)

    assert isinstance(read, NotADeadLetter)
    assert "are no numbers" in read.reason
