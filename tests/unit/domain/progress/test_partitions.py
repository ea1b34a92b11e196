# A partition at its assignment: what is restored, and when it begins.

from __future__ import annotations

import pytest

from tests.unit.domain.factories import open_command, partition
from tests.unit.domain.samples import SETTINGS
from worker.domain.contract.outcomes import RememberedCommandId
from worker.domain.effects import OffsetCommit
from worker.domain.progress.commit_metadata import encode, label
from worker.domain.progress.partitions import COOLING_OFF_SECONDS
from worker.domain.state_transitions import PartitionState


def test_it_begins_where_the_last_owner_has_committed() -> None:
    restored = partition(position=17, done=0b10)

    assert restored.offsets.is_done(16)
    assert not restored.offsets.is_done(17)
    assert restored.offsets.is_done(18)
    whose = label(SETTINGS.topic, SETTINGS.topic_id, 3)
    assert restored.offsets.propose([]) == OffsetCommit(17, encode(whose, 17, 0b10))


def test_it_knows_the_ids_that_the_outcome_topic_tells_the_newest_last() -> None:
    older, newer = (
        RememberedCommandId("c-1", 1, f"outcome-{number}", None, 1_900_000_000.0) for number in (1, 2)
    )

    restored = partition(known=[older, newer])

    assert restored.ids.find("c-1", 1_900_000_000.0) is newer


def test_it_remembers_as_many_ids_as_the_settings_say() -> None:
    known = [
        RememberedCommandId(f"c-{number}", 1, f"outcome-{number}", None, 1_900_000_000.0)
        for number in range(5001)
    ]

    restored = partition(known=known)

    assert len(restored.ids) == 5000
    assert restored.ids.find("c-0", 1_900_000_000.0) is None


def test_nothing_of_it_is_called_for_three_seconds() -> None:
    restored = partition()

    assert restored.active_at == 100.0 + COOLING_OFF_SECONDS == 103.0
    assert not restored.activate(102.9)
    assert (restored.state, restored.holds_slice) == (PartitionState.COOLING_OFF, False)
    assert restored.activate(103.0)
    assert (restored.state, restored.holds_slice) == (PartitionState.ACTIVE, True)
    assert not restored.activate(104.0)


def test_it_may_be_handed_over_when_nothing_of_it_is_open() -> None:
    held = partition()
    quiet = [held.is_quiet]

    held.admit(open_command(of=held))
    quiet.append(held.is_quiet)

    assert quiet == [True, False]


def test_it_keeps_its_slice_until_it_is_gone() -> None:
    held = partition()
    held.activate(103.0)

    held.close()
    held.close()
    assert held.holds_slice
    held.release()

    with pytest.raises(AssertionError, match="cannot become active"):
        held.move_to(PartitionState.ACTIVE)
    assert [held.holds_slice, held.is_gone] == [False, True]


def test_its_state_can_be_read_from_its_text() -> None:
    held = partition(position=17)
    texts = [repr(held)]
    held.activate(103.0)
    texts.append(repr(held))
    held.close()
    texts.append(repr(held))

    assert texts == [
        f"<Partition 3 {state}, <OffsetTracker 17+0, 0 open>, 0 in the backlog>"
        for state in ("cooling off", "active", "closing")
    ]
