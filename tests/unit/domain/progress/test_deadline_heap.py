# When commands expire, and that those which are done are not kept for it.

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from worker.domain.progress.deadline_heap import FEW, DeadlineHeap

if TYPE_CHECKING:
    from worker.domain.progress.open_commands import OpenCommand


@dataclass(slots=True, eq=False)
class Command:
    """As much of a OpenCommand as is looked at."""

    emitted: bool = False
    dropped: bool = False


def add(expiries: DeadlineHeap, last_moment: float) -> OpenCommand:
    command = cast("OpenCommand", Command())
    expiries.add(command, last_moment)
    return command


def test_commands_come_out_in_the_order_of_their_last_moments() -> None:
    expiries = DeadlineHeap()
    later, sooner, never = add(expiries, 30.0), add(expiries, 20.0), add(expiries, 99.0)

    assert list(expiries.due(40.0)) == [sooner, later]
    assert expiries.next == 99.0
    assert list(expiries.due(99.0)) == []  # its last moment is not over
    assert list(expiries.due(99.1)) == [never]
    assert expiries.next is None


def test_finished_commands_with_a_far_last_moment_are_not_kept_until_then() -> None:
    """A ban until next year would hold its command, and its record, in memory for a year."""
    expiries = DeadlineHeap()
    for _ in range(10_000):
        command = add(expiries, 1e9)
        command.emitted = True
        expiries.count_finished()

    assert len(expiries) <= 2 * FEW + 2


def test_open_commands_stay_when_finished_ones_are_forgotten() -> None:
    expiries = DeadlineHeap()
    still_open = [add(expiries, 1e9 + place) for place in range(5)]
    for _ in range(500):
        command = add(expiries, 1e9)
        command.dropped = True
        expiries.count_finished()

    assert [command for command in expiries.due(2e9) if not command.dropped] == still_open


def test_expiries_tell_themselves_in_a_line() -> None:
    expiries = DeadlineHeap()
    add(expiries, 20.0)

    assert repr(expiries) == "<DeadlineHeap 1, next at 20.0>"
