# Which member of the group gets which partition: kafka-python's cooperative-sticky assignor, with two of its bugs fixed.
#
# Both bugs give a partition to one member while another still owns it, without a handover. They occur when a process that
# was stopped for longer than its session resumes (kafka-python 3.0.12).
# No bookkeeping of partitions is here (partition_ownership.py).

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from kafka import TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.protocol.consumer.metadata import ConsumerProtocolSubscription

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

OWNED_WITH_GENERATION: Final = 2
"""The version of the consumer protocol in which a member reports the generation its partitions are from."""


class Assignor(CooperativeStickyAssignor):
    """
    A cooperative-sticky assignor that claims only what this member owns now. As leader it trusts the younger of two claims.

    kafka-python claims whatever it was last assigned, even if it has lost it since. It also claims without a generation, so
    the leader cannot know which of two members is wrong, and may move the partition at once.

    ``owned`` is called at each join, on kafka-python's I/O thread.
    """

    version = OWNED_WITH_GENERATION

    def __init__(self, owned: Callable[[], Iterable[int]]) -> None:
        theirs: Any = super()
        theirs.__init__()
        self._owned = owned

    def metadata(self, topics: Iterable[str]) -> Any:
        """Return what this member asks for: its topics (there is one) and the partitions of them that it owns."""
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
        """Assign partitions to all members, as leader. If several claim one partition, only the youngest claim counts."""
        claims: dict[TopicPartition, list[tuple[int, str]]] = defaultdict(list)
        for member in members:
            for claim in member.metadata.owned_partitions or ():
                for number in claim.partitions:
                    tp = TopicPartition(claim.topic, number)
                    claims[tp].append((member.metadata.generation_id, member.member_id))
        owners = {tp: max(claimants)[1] for tp, claimants in claims.items()}
        for member in members:
            for claim in member.metadata.owned_partitions or ():
                claim.partitions = [
                    number
                    for number in claim.partitions
                    if owners[TopicPartition(claim.topic, number)] == member.member_id
                ]
        theirs: Any = super()
        return theirs.assign(cluster, members)
