# A commit's metadata: read back whole where it was written, and by nobody else.
#
# The format is written out here once more, so that a change of it is seen.

from __future__ import annotations

import base64
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.domain.progress.commit_metadata import (
    EXCERPT,
    MAX_SPAN,
    METADATA_BYTES,
    NAME_BYTES,
    decode,
    encode,
    excerpt,
    label,
    mark_of,
    owner_of,
    slice_free_in_ms,
)

ID = "tW5xAAAAAAAAAAAAAAAAAQ"
HERE = label("commands", ID, 3)
OURS = encode(HERE, 20, 0b1101)
MARK = mark_of("worker-0")


def signed(head: str, bitmap: bytes | str) -> str:
    """A text with a right checksum, whatever it says."""
    text = bitmap if isinstance(bitmap, str) else base64.b64encode(bitmap).decode()
    return f"{head};{zlib.crc32(f'{head};{text}'.encode()):08x};{text}"


@pytest.mark.parametrize("bits", [0, 0b1101])
def test_the_commit_of_a_clean_handover_says_when_its_slice_is_free(bits: int) -> None:
    """A build that does not know this format takes it for a foreign text, and waits as long as after a crash."""
    text = encode(HERE, 20, bits, 350)

    assert text == signed(f"mw2;id:{ID};3;{20:019d};0350", bits.to_bytes((bits > 0) * 1, "little"))
    assert (decode(text, HERE, 20), slice_free_in_ms(text)) == (bits, 350)
    assert decode(text, HERE, 21) is None
    assert slice_free_in_ms(encode(HERE, 20, bits)) is None


def test_it_names_format_topic_partition_offset_and_checksum_before_the_bitmap() -> None:
    assert signed(f"mw1;id:{ID};3;{20:019d}", b"\x0d") == OURS


def test_a_topic_without_an_id_is_named_by_its_name() -> None:
    assert label("commands", None, 0) == "name:commands;0"


def test_where_nothing_is_done_above_the_offset_there_is_none() -> None:
    """So a broker that takes hardly any metadata still takes commits."""
    assert encode(HERE, 20, 0) == ""
    assert decode("", HERE, 20) == 0


@pytest.mark.parametrize(("free_in_ms", "tag", "last"), [(None, "mw3", ""), (0, "mw4", ";0000")])
@pytest.mark.parametrize("bits", [0, 0b1101])
def test_a_static_member_names_itself_in_each_commit(
    free_in_ms: int | None, tag: str, last: str, bits: int
) -> None:
    """When it comes back it knows that nobody else has called anything since."""
    text = encode(HERE, 20, bits, free_in_ms, MARK)

    assert text == signed(f"{tag};id:{ID};3;{20:019d};{MARK}{last}", bits.to_bytes((bits > 0) * 1, "little"))
    assert (decode(text, HERE, 20), slice_free_in_ms(text), owner_of(text)) == (bits, free_in_ms, MARK)


@pytest.mark.parametrize("text", ["", "mw3", f"mw3;id:{ID};3;{20:019d};{MARK}", OURS, "mw3;;;;;;;;"])
def test_what_is_not_signed_by_a_static_member_names_nobody(text: str) -> None:
    """The text may be anybody's: whether to believe it is asked before."""
    assert owner_of(text) == ""


def test_a_dynamic_member_has_no_mark_and_each_static_one_its_own() -> None:
    assert mark_of(None) == ""
    assert len({mark_of("worker-0"), mark_of("worker-1"), ""}) == 3


@settings(max_examples=200)
@given(bits=st.integers(1, 1 << 300), base=st.integers(0, 2**63 - 1), partition=st.integers(0, 2**31 - 1))
def test_what_was_written_is_read_back(bits: int, base: int, partition: int) -> None:
    whose = label("commands", ID, partition)

    assert decode(encode(whose, base, bits), whose, base) == bits


def test_the_fullest_bitmap_fits_into_what_a_broker_takes() -> None:
    """Under the longest name, the highest partition and the highest offset."""
    whose = label("n" * NAME_BYTES, None, 2**31 - 1)
    text = encode(whose, 2**63 - 1, (1 << MAX_SPAN) - 1, owner=MARK)

    assert MAX_SPAN >= 20_000
    assert METADATA_BYTES - 4 < len(text) <= METADATA_BYTES
    assert decode(text, whose, 2**63 - 1) == (1 << MAX_SPAN) - 1


def test_a_clean_handover_that_does_not_fit_beside_the_fullest_bitmap_is_not_said() -> None:
    """The next owner waits as after a crash. A bit less, and it is said."""
    whose, fullest = label("n" * NAME_BYTES, None, 2**31 - 1), (1 << MAX_SPAN) - 1
    text = encode(whose, 2**63 - 1, fullest, 350, MARK)

    assert text == encode(whose, 2**63 - 1, fullest, owner=MARK)
    assert slice_free_in_ms(encode(whose, 2**63 - 1, fullest >> 48, 350, MARK)) == 350


FOREIGN = {
    "Kafka Streams": "AQAAAZrJQvWA",
    "a word": "done",
    "JSON": '{"offset": 20}',
    "not base64": "not base64!",
    "no ASCII": "ü",
    "a bare bitmap": "DQ==",
    "another offset": encode(HERE, 15, 0b1101),
    "another partition": encode(label("commands", ID, 4), 20, 0b1101),
    "a topic made again": encode(label("commands", "BBBBBBBBBBBBBBBBBBBBBQ", 3), 20, 0b1101),
    "a topic of that name": encode(label("commands", None, 3), 20, 0b1101),
    "a later format": signed(f"mw5;id:{ID};3;{20:019d}", b"\x0d"),
    "an owner's format without one": signed(f"mw3;id:{ID};3;{20:019d}", b"\x0d"),
    "an owner in a format without": signed(f"mw1;id:{ID};3;{20:019d};{MARK}", b"\x0d"),
    "a clean handover that does not say when": signed(f"mw2;id:{ID};3;{20:019d}", b"\x0d"),
    "a clean handover in a format without": signed(f"mw1;id:{ID};3;{20:019d};0350", b"\x0d"),
    "a slice that is free in a while": signed(f"mw2;id:{ID};3;{20:019d};12345", b"\x0d"),
    "a slice that was free before": signed(f"mw2;id:{ID};3;{20:019d};-350", b"\x0d"),
    "a slice that is free at a time": signed(f"mw2;id:{ID};3;{20:019d};0.35", b"\x0d"),
    "digits of another script": signed(f"mw2;id:{ID};3;{20:019d};\u0660\u0663\u0665\u0660", b"\x0d"),
    "an owner behind the time": signed(f"mw4;id:{ID};3;{20:019d};0350;{MARK}", b"\x0d"),
    "an owner that is none": signed(f"mw3;id:{ID};3;{20:019d};{MARK.upper()}", b"\x0d"),
    "a longer bitmap than the text says": signed(f"mw1;id:{ID};3;{20:019d}", b"\x0d\x00"),
    "nothing done": signed(f"mw1;id:{ID};3;{20:019d}", b""),
    "lines in the bitmap": signed(f"mw1;id:{ID};3;{20:019d}", "D\nQ=="),
    "cut": OURS[:-1],
    "something behind it": f"{OURS} ",
    "something before it": f" {OURS}",
    "twice": f"{OURS}{OURS}",
    "other case": OURS.upper(),
    "too long": encode(HERE, 20, 1 << 8 * METADATA_BYTES),
}


@pytest.mark.parametrize("text", FOREIGN.values(), ids=FOREIGN.keys())
def test_what_is_not_ours_or_not_of_here_is_none(text: str) -> None:
    """It was believed where it happened to be base64: commands vanished without a word."""
    assert decode(text, HERE, 20) is None


def test_no_part_of_it_can_be_cut_off_and_no_bit_be_turned() -> None:
    """Except the whole of it, which is no metadata at all."""
    cut = [OURS[:end] for end in range(1, len(OURS))]
    turned = [
        OURS[:place] + chr(ord(OURS[place]) ^ 1 << bit) + OURS[place + 1 :]
        for place in range(len(OURS))
        for bit in range(7)
    ]

    assert {decode(text, HERE, 20) for text in cut + turned} == {None}


@given(text=st.text())
def test_no_text_is_an_error(text: str) -> None:
    assert decode(text, HERE, 20) in (None, 0)


def test_an_excerpt_is_short_and_fit_to_be_shown() -> None:
    shown = excerpt("a\n\x1b[31m\u202e" + "x" * 9999)

    assert shown == r"a\n\x1b[31m\u202e" + "x" * (EXCERPT - 8)
