# A partition moves only after its owner has given it up, whatever a process that was stopped for a while believes.

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from kafka import TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.protocol.consumer.metadata import ConsumerProtocolSubscription

from worker.broker.assignor import Assignor

TOPIC = "commands"


@dataclass
class Joined:
    """One member, as the leader sees it."""

    member_id: str
    metadata: Any
    group_instance_id: str | None = None


class OneTopic:
    """The leader's view of the cluster."""

    def __init__(self, partitions: int) -> None:
        self._partitions = set(range(partitions))

    def topics(self) -> set[str]:
        return {TOPIC}

    def partitions_for_topic(self, _: str) -> set[int]:
        return self._partitions


def joined(name: str, *owned: int, generation: int) -> Joined:
    """A member that claims these partitions, through the wire and back."""
    assignor = Assignor(lambda: owned)
    assignor.generation = generation
    return Joined(name, ConsumerProtocolSubscription.decode(assignor.metadata([TOPIC]).encode()))


def assigned(partitions: int, *members: Joined) -> dict[str, list[int]]:
    plan = Assignor(lambda: ()).assign(OneTopic(partitions), list(members))
    return {name: [place.partition for place in assignment.partitions()] for name, assignment in plan.items()}


def test_a_member_claims_what_it_owns_now_and_not_what_it_was_last_assigned() -> None:
    owned = {0, 1}
    assignor = Assignor(lambda: owned)
    assignor.member_assignment = [TopicPartition(TOPIC, 0), TopicPartition(TOPIC, 1)]
    assignor.generation = 7

    owned.clear()
    subscription = ConsumerProtocolSubscription.decode(assignor.metadata([TOPIC]).encode())

    assert not subscription.owned_partitions
    assert subscription.generation_id == 7


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_two_claims_the_younger_counts_and_the_partition_does_not_move_in_that_round(
    order: tuple[int, int],
) -> None:
    members = joined("owner", 0, 1, generation=9), joined("zombie", 0, 1, generation=5)

    owners = assigned(2, *(members[place] for place in order))

    assert owners["zombie"] == []
    assert len(owners["owner"]) == 1


def test_kafka_pythons_own_assignor_gives_it_to_both_at_once() -> None:
    """Why there is one of ours: the same members, claiming as kafka-python makes them. The zombie comes last."""
    members = joined("owner", 0, 1, generation=-1), joined("zombie", 0, 1, generation=-1)

    assignments = CooperativeStickyAssignor().assign(OneTopic(2), list(members))

    assert [place.partition for place in assignments["zombie"].partitions()] != []


def test_an_owner_keeps_what_it_has_and_a_newcomer_gets_what_nobody_has() -> None:
    owned = assigned(
        3, joined("a", 0, generation=3), joined("b", 1, generation=3), joined("c", generation=-1)
    )

    assert owned == {"a": [0], "b": [1], "c": [2]}


def test_a_partition_that_moves_is_nobodys_for_one_round() -> None:
    first = assigned(2, joined("a", 0, 1, generation=3), joined("b", generation=-1))
    kept = first["a"]
    second = assigned(2, joined("a", *kept, generation=4), joined("b", generation=4))

    assert first["b"] == []
    assert len(kept) == 1
    assert sorted(second["a"] + second["b"]) == [0, 1]
    assert second["a"] == kept


def test_a_member_of_kafka_pythons_own_kind_is_understood() -> None:
    """It claims without a generation: a claim with one is believed before it."""
    theirs = CooperativeStickyAssignor()
    theirs.member_assignment = [TopicPartition(TOPIC, 0)]
    other = Joined("theirs", ConsumerProtocolSubscription.decode(theirs.metadata([TOPIC]).encode()))

    owners = assigned(2, other, joined("ours", 0, 1, generation=2))

    assert 0 in owners["ours"] or 1 in owners["ours"]
    assert owners["theirs"] == []
