# The identity that goes into a transaction, by which the broker fences. It does not check an anonymous one at all, so none is
# ever returned (that the broker would take it is shown in tests/contract/broker/test_kafka_private_parts.py).

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.broker.test_client_config import options
from worker.broker.consumer import Consumer


def member(generation_id: int = 7, member_id: str = "member") -> Consumer:
    """
    Return a consumer that owns partition 3, with this identity from kafka-python.
    """
    listener: Any = SimpleNamespace()
    consumer = Consumer(options(), listener, lambda _: None)
    metadata = SimpleNamespace(generation_id=generation_id, member_id=member_id)
    kafkas: Any = SimpleNamespace(group_metadata=lambda: metadata)
    consumer._consumer = kafkas
    consumer._membership.assigned([3])
    consumer._membership.begin(3, 1)
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
    consumer._membership.gone([3])

    assert consumer.group_metadata(claim) is None


def test_without_a_connection_there_is_no_identity() -> None:
    consumer = member()
    claim = consumer.claim([3])
    assert claim is not None
    consumer._consumer = None

    assert consumer.group_metadata(claim) is None
