# Which of the broker's answers prove that this process is a member, and since when. That kafka-python calls the handlers that are
# replaced here is proven in tests/contract/broker/test_kafka_private_parts.py.

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Final

import pytest
from kafka import errors

from worker.broker.kafka_private_parts import MEMBERSHIP_ENDED, witness_membership

SENT_AT: Final = 100.0
HANDLERS: Final = (
    "_handle_heartbeat_response",
    "_process_sync_group_response",
    "_process_join_group_response",
)


class Witnessed:
    """Return a consumer whose coordinator is watched, and what was reported of it."""

    def __init__(self, error: Exception | None = None) -> None:
        def handle(*_: object) -> str:
            if error is not None:
                raise error
            return "answer"

        self.coordinator = SimpleNamespace(**dict.fromkeys(HANDLERS, handle))
        self.proofs: list[float] = []
        self.ends: list[Exception] = []
        consumer: Any = SimpleNamespace(_coordinator=self.coordinator)
        witness_membership(consumer, self.proofs.append, self.ends.append)

    def hear(self, handler: str) -> object:
        """An answer comes, to a request that was sent at ``SENT_AT``."""
        return getattr(self.coordinator, handler)("response", SENT_AT)


@pytest.mark.parametrize("handler", HANDLERS[:2])
def test_an_answer_proves_the_membership_from_when_its_request_was_sent(handler: str) -> None:
    """The broker may have counted the session from there; when the answer came says nothing."""
    witnessed = Witnessed()

    assert witnessed.hear(handler) == "answer"
    assert witnessed.proofs == [SENT_AT]


def test_a_join_that_waited_for_all_others_proves_nothing() -> None:
    witnessed = Witnessed()

    assert witnessed.hear("_process_join_group_response") == "answer"
    assert witnessed.proofs == []


@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize("error", MEMBERSHIP_ENDED)
def test_an_answer_that_the_member_is_out_is_reported_and_proves_nothing(
    handler: str, error: type[errors.KafkaError]
) -> None:
    witnessed = Witnessed(error())

    with pytest.raises(error):
        witnessed.hear(handler)
    assert [type(each) for each in witnessed.ends] == [error]
    assert witnessed.proofs == []


@pytest.mark.parametrize("handler", HANDLERS)
def test_an_answer_that_only_asks_to_wait_proves_nothing_and_ends_nothing(handler: str) -> None:
    witnessed = Witnessed(errors.RebalanceInProgressError())

    with pytest.raises(errors.RebalanceInProgressError):
        witnessed.hear(handler)
    assert (witnessed.proofs, witnessed.ends) == ([], [])
