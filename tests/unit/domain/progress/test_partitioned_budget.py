# A part of the memory budget that partitions use together: each is sure of its own part, and none takes more than the common one has.

from __future__ import annotations

from tests.unit.domain.factories import partition
from worker.domain.progress.partitioned_budget import PartitionedBudget


def test_what_a_partition_that_has_gone_frees_makes_no_room_twice() -> None:
    """Its bytes beyond its own part counted no more from the moment it went."""
    going, staying = partition(), partition()
    budget = PartitionedBudget(1000)
    budget.share_out([going, staying])
    budget.add(going, 700)
    going.release()
    budget.share_out([staying])

    budget.add(going, -700)

    assert budget.bytes_used == 0
    assert budget.has_room_for(staying, 1000)
    assert not budget.has_room_for(staying, 1001)
