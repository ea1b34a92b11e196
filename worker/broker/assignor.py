# Who of the group gets which partition: kafka-python's cooperative-sticky assignor, with two faults of it fixed.
#
# Both give a partition to a member while another one still owns it, without a handover. They show when a process that was
# stopped for longer than its session goes on (kafka-python 3.0.12).

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from kafka import TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.protocol.consumer.metadata import ConsumerProtocolSubscription

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

OWNED_WITH_GENERATION: Final = 2
"""The version of the group's protocol in which a member tells which generation its partitions are from."""


class Assignor(CooperativeStickyAssignor):
    """
    Cooperative-sticky. It claims what this member owns now, and as leader believes of two claims the younger one.

    kafka-python claims what it was last assigned, even when it has lost it since; and claims without a generation, so that
    the leader cannot tell which of two members is wrong, and may move the partition at once.

    ``owned`` is asked at each join, on kafka-python's I/O thread.
    """

    version = OWNED_WITH_GENERATION

    def __init__(self, owned: Callable[[], Iterable[int]]) -> None:
        theirs: Any = super()
        theirs.__init__()
        self._owned = owned

    def metadata(self, topics: Iterable[str]) -> Any:
        """What this member asks for: its topics, and what it owns of them. There is one topic."""
        names = sorted(topics)
        owned = sorted(self._owned())
        claim = ConsumerProtocolSubscription.TopicPartition
        return ConsumerProtocolSubscription(
            version=self.version,
            topics=names,
            user_data=b"",
            owned_partitions=[claim(topic=name, partitions=owned) for name in names if owned],
            generation_id=self.generation,
        )

    def assign(self, cluster: Any, members: list[Any]) -> Any:
        """The leader's work. Of a partition that several members claim, only the youngest claim counts."""
        claims: dict[TopicPartition, list[tuple[int, str]]] = defaultdict(list)
        for member in members:
            for claim in member.metadata.owned_partitions or ():
                for number in claim.partitions:
                    place = TopicPartition(claim.topic, number)
                    claims[place].append((member.metadata.generation_id, member.member_id))
        owners = {place: max(claimants)[1] for place, claimants in claims.items()}
        for member in members:
            for claim in member.metadata.owned_partitions or ():
                claim.partitions = [
                    number
                    for number in claim.partitions
                    if owners[TopicPartition(claim.topic, number)] == member.member_id
                ]
        theirs: Any = super()
        return theirs.assign(cluster, members)
