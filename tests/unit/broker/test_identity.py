# The identity that goes into a transaction, by which the broker fences. It does not check an anonymous one at all, so none is
# ever returned (that the broker would take it is shown in tests/contract/broker/test_kafka_private_parts.py).

from __future__ import annotations

import uuid
from types import SimpleNamespace
from typing import Any, Final

import pytest

from tests.unit.broker.test_client_config import options
from worker.broker.consumer import Consumer
from worker.broker.kafka_private_parts import id_text

OLD: Final = uuid.UUID(int=1)
NEW: Final = uuid.UUID(int=2)
NOTHING: Final = uuid.UUID(int=0)
"""The id of a topic that does not exist, in the answers of some brokers."""


def member(
    generation_id: int = 7, member_id: str = "member", ids: dict[str, uuid.UUID] | None = None
) -> Consumer:
    """Return a consumer that owns partition 3, with this identity from kafka-python, and these ids of topics."""
    listener: Any = SimpleNamespace()
    consumer = Consumer(options(), listener, lambda _: None)
    metadata = SimpleNamespace(generation_id=generation_id, member_id=member_id)
    kafkas: Any = SimpleNamespace(
        group_metadata=lambda: metadata, _cluster=SimpleNamespace(topic_id=({} if ids is None else ids).get)
    )
    consumer._consumer = kafkas
    consumer._ownership.assigned([3])
    consumer._ownership.begin(3, 1)
    return consumer


def test_a_members_identity_is_given_for_what_it_owns() -> None:
    consumer = member()
    claim = consumer.claim([3])

    assert claim is not None
    assert consumer.group_metadata(claim).generation_id == 7


@pytest.mark.parametrize(("generation_id", "member_id"), [(-1, "member"), (7, ""), (-1, "")])
def test_an_identity_that_was_lost_is_never_given(generation_id: int, member_id: str) -> None:
    consumer = member(generation_id, member_id)
    claim = consumer.claim([3])

    assert claim is not None
    assert consumer.group_metadata(claim) is None


def test_no_identity_is_given_for_what_has_gone_since_it_was_claimed() -> None:
    consumer = member()
    claim = consumer.claim([3])
    assert claim is not None
    consumer._ownership.gone([3])

    assert consumer.group_metadata(claim) is None
    assert not consumer.is_topic_gone()


def test_without_a_connection_there_is_no_identity() -> None:
    consumer = member()
    claim = consumer.claim([3])
    assert claim is not None
    consumer._consumer = None

    assert consumer.group_metadata(claim) is None
    assert not consumer.is_topic_gone()


@pytest.mark.parametrize("found", [None, NOTHING, NEW])
def test_no_identity_is_given_while_the_topic_is_gone_or_is_another(found: uuid.UUID | None) -> None:
    """Kafka drops a group's offsets with the topic: an old one written after that is a place in the new topic."""
    topic = options().command_topic
    ids = {topic: OLD}
    consumer = member(ids=ids)
    claim = consumer.claim([3])
    assert claim is not None
    consumer._watch_topic_id(consumer._consumer)  # type: ignore[arg-type]
    assert consumer.group_metadata(claim).generation_id == 7
    del ids[topic]
    if found is not None:
        ids[topic] = found

    assert consumer.group_metadata(claim) is None
    assert consumer.is_topic_gone()


def test_the_identity_is_given_again_when_the_topic_was_missing_for_a_moment() -> None:
    topic = options().command_topic
    ids = {topic: OLD}
    consumer = member(ids=ids)
    claim = consumer.claim([3])
    assert claim is not None
    for found in (OLD, NOTHING, OLD):
        ids[topic] = found
        consumer._watch_topic_id(consumer._consumer)  # type: ignore[arg-type]

    assert consumer.group_metadata(claim).generation_id == 7
    assert not consumer.is_topic_gone()


def test_no_identity_is_given_any_more_once_another_topic_was_seen() -> None:
    topic = options().command_topic
    ids = {topic: OLD}
    consumer = member(ids=ids)
    claim = consumer.claim([3])
    assert claim is not None
    for found in (OLD, NEW):
        ids[topic] = found
        consumer._watch_topic_id(consumer._consumer)  # type: ignore[arg-type]

    assert consumer.topic_id() == id_text(NEW)
    assert consumer.group_metadata(claim) is None
    assert consumer.is_topic_gone()
