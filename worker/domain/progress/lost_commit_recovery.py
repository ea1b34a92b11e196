# Where to go on in a partition whose commit is lost, or has metadata that is not ours: its own outcomes prove it.
#
# An outcome names its record (topic, partition, offset) and its command_id. Both must agree with the record at that offset: a topic
# made again under the same name has other records at the same offsets. A record whose id cannot be read has no outcome, but a dead
# letter with its value. Nothing is read here (broker/partition_restore.py does), and nothing is guessed: where the outcomes leave a
# doubt, a person decides.

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from worker.domain.contract.outcomes import Source
from worker.domain.contract.raw_records import OmittedBytes
from worker.domain.progress.commit_metadata import MAX_SPAN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.domain.contract.dead_letter_decoding import ParsedDeadLetter

ENOUGH: Final = 2 * MAX_SPAN
"""
This many of a partition's newest outcomes cover every offset that can have been open at the last of them: a record is admitted only
within ``MAX_SPAN`` above the oldest open one, so records whose outcomes are older are finished.
"""


class OutcomeEvidence(Struct, frozen=True):
    """Which record one outcome is of."""

    command_id: str
    source: Source


class RecoveredPosition(Struct, frozen=True):
    """Where to go on: at ``position``, without the records of ``done`` (a bitmap from there)."""

    position: int
    done: int


class UnclearPosition(Struct, frozen=True):
    """
    Why only a person can say where to go on.

    Attributes:
        reason: Which fact is not known, as a sentence.
        first: The first offset that is in doubt.
        next: The offset after the last record that has an outcome.

    """

    reason: str
    first: int
    next: int


def evidence_in(value: bytes) -> OutcomeEvidence | None:
    """Return which record an outcome is of, and its command_id; None for a record that is no outcome of ours."""
    try:
        return _decoder.decode(value)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


def placeholder_id(value: bytes | None) -> str:
    """Return the placeholder of a record without a readable command_id: no command_id begins like this."""
    if isinstance(value, OmittedBytes):
        return placeholder_id_from_hash(value.sha256)
    return placeholder_id_from_hash(hashlib.sha256(value or b"").hexdigest())


def placeholder_id_from_hash(sha256: str) -> str:
    """Return the placeholder of a record of whose value only the hash is known."""
    return f"\0{sha256}"


def placeholder_id_from_letter(letter: ParsedDeadLetter) -> str:
    """Return the placeholder of the record of a dead letter."""
    if letter.value_sha256 is None:
        return placeholder_id(letter.value)
    return placeholder_id_from_hash(letter.value_sha256)


def is_placeholder(command_id: str) -> bool:
    """Return whether this is a placeholder and no command_id."""
    return command_id.startswith("\0")


def offsets_to_compare(position: int, ids: Mapping[int, str]) -> range:
    """Return the offsets at and above ``position`` whose records must be compared with their outcomes (``ids``: offset -> command_id)."""
    top = max(ids, default=position - 1)
    return range(max(position, top + 1 - MAX_SPAN), top + 1)


def bitmap_of_proven(position: int, records: Mapping[int, str], ids: Mapping[int, str]) -> int:
    """Return the bitmap, from ``position``, of the records (offset -> command_id) that have their own outcome."""
    return sum(
        1 << offset - position for offset, command_id in records.items() if ids.get(offset) == command_id
    )


def recover_position(
    start: int,
    end: int,
    records: Mapping[int, str],
    ids: Mapping[int, str],
    *,
    is_whole: bool,
    from_start: bool,
) -> RecoveredPosition | UnclearPosition:
    """
    Return where to go on in a partition from ``start`` to ``end`` that has outcomes and no commit.

    ``records`` are the existing records (offset -> command_id) of ``offsets_to_compare(start, ids)``, in order, and ``ids`` the
    command_ids that the outcomes name (offset -> command_id). ``is_whole``: no outcome was ever deleted. ``from_start``: the group began
    with the partition's first record, so a record without an outcome was not skipped on purpose.
    """
    base, top = offsets_to_compare(start, ids).start, max(ids)
    if top >= end:
        return UnclearPosition(
            f"the outcomes tell of offset {top}, and the partition ends at {end}", end, end
        )
    position, done, seen = max(start, top + 1), 0, 0
    for offset, command_id in records.items():
        published = ids.get(offset)
        if published is None:
            if not is_whole:
                return UnclearPosition(
                    f"nothing tells whether offset {offset} was done: outcomes were deleted", offset, top + 1
                )
            if not (seen or from_start):
                return UnclearPosition(
                    f"nothing tells whether offset {offset} was to be done at all", offset, top + 1
                )
            if position > top:
                position = offset
        elif published != command_id:
            return UnclearPosition(
                f"the outcome of offset {offset} is not of the record that is there", offset, end
            )
        else:
            seen += 1
            done |= 1 << offset - base
    return RecoveredPosition(position, done >> position - base)


_decoder: Final = msgspec.json.Decoder(OutcomeEvidence)
