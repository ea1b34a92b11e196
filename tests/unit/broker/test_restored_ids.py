# What a restoration keeps while it reads: never more than memory is given, whatever a predecessor remembered.

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.broker.partition_restore import newest
from worker.domain.contract.outcomes import HashedUserSet, RememberedCommandId
from worker.domain.memory_budget import ID_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

USERS = [f"a-user-with-a-long-name-{number:04d}" for number in range(100)]


def known_ids(count: int, done: HashedUserSet | None = None) -> Iterator[RememberedCommandId]:
    """Yield what this many outcomes say, as they are read."""
    for number in range(count):
        yield RememberedCommandId(f"id-{number}", 1, f"commands-0-{number}", done, 0.0)


def test_no_more_is_kept_than_memory_is_given_while_it_is_read() -> None:
    """The pod would die of it, and so would that of the next owner, for ever."""
    found, left = newest(known_ids(1_000), limit=500, max_bytes=10 * ID_BYTES + 5)

    assert [known and known.command_id for known in found] == [f"id-{number}" for number in range(990, 1_000)]
    assert left == 0


def test_what_fits_is_kept_whole_and_the_rest_of_memory_is_for_older_ones() -> None:
    found, left = newest(known_ids(10), limit=500, max_bytes=30 * ID_BYTES)

    assert len(found) == 10
    assert left == 20 * ID_BYTES


def test_half_successes_of_many_users_are_counted_by_what_they_take() -> None:
    found, left = newest(
        known_ids(100, HashedUserSet.of(USERS[:50], USERS[50:])), limit=500, max_bytes=10_000
    )

    assert 10 < len(found) < 15
    assert left == 0


def test_records_that_tell_nothing_take_a_place_and_no_memory() -> None:
    found, left = newest([None] * 20, limit=8, max_bytes=1_000)

    assert (len(found), left) == (8, 1_000)
