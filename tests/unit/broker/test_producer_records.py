# What becomes a record: nothing is larger than its topic's limit, whatever the command brought.

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka.record.default_records import DefaultRecordBatchBuilder

from tests.contract.broker.kafka_fixture import outcome_for, transaction_of
from tests.contract.broker.kafka_fixture import record as record_of
from worker.broker.options import KafkaOptions
from worker.broker.producer_records import producer_records
from worker.domain.contract.dead_letter_encoding import SMALLEST_LIMIT, DeadLetter
from worker.domain.contract.outcomes import AttemptRecord, OutcomeError, Result, ResultStatus
from worker.domain.contract.parameters import Parameters
from worker.domain.contract.raw_records import OmittedBytes
from worker.domain.progress.dedupe import known_of

if TYPE_CHECKING:
    from worker.broker.producer_records import ProducerRecord

OPTIONS = KafkaOptions(
    "kafka", "workers", "commands", "outcomes", "letters", "pod-0", cloudevents_headers=True
)
USERS = 100


def largest(key: bytes | None = b"room", text: str = "x" * 512, **changes: Any) -> Any:
    """An outcome with as much as a command can bring, and Tencent add."""
    call = AttemptRecord(
        "c", "room_engine_http_srv/kick_user_out", "2026-01-01T00:00:00Z", 1.0, 20, error_info=text
    )
    result = Result("u" * 32, ResultStatus.FAILED, "r" * 64, 10010, text, duplicate_of="c" * 249)
    fields: dict[str, Any] = {
        "command_id": '"' * 128,
        "action": "group.ban_group_member",
        "issuer": '"' * 256,
        "metadata": {"m": "x" * 4000},
        "parameters": Parameters(reason='"' * 1000),
        "request_ids": ["r" * 64] * 100,
        "calls": [call] * 100,
        "results": [result] * USERS,
        "error": OutcomeError("no_answer", text),
    }
    return outcome_for(0, 7, key, traceparent='"' * 128, **fields | changes)


def sent(outgoing: Any, limit: int) -> ProducerRecord:
    (record,) = producer_records(transaction_of([outgoing], {}), OPTIONS, {"outcomes": limit})
    return record


def wire_bytes(record: ProducerRecord) -> int:
    builder = DefaultRecordBatchBuilder(
        2, 0, is_transactional=1, producer_id=1, producer_epoch=1, base_sequence=1, batch_size=9**9
    )
    builder.append(0, 0, record.key, record.value, record.headers)
    return len(builder.build())


def decoded_outcome(record: ProducerRecord) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.json.decode(record.value or b"")
    return decoded


def test_a_record_that_fits_is_sent_whole() -> None:
    record = sent(largest(), 1_000_000)

    assert record.key == b"room"
    assert len(decoded_outcome(record)["calls"]) == 100
    assert not record.is_shortened


def test_an_outcome_loses_its_calls_then_its_texts_then_what_the_command_brought() -> None:
    shapes = []
    for limit in (1_000_000, 120_000, 60_000, 50_000):
        outcome = decoded_outcome(sent(largest(), limit))
        shapes.append(
            (
                len(outcome.get("calls", [])),
                "error_info" in outcome["results"][0],
                "metadata" in outcome,
                "duplicate_of" in outcome["results"][0],
            )
        )

    assert shapes == [
        (100, True, True, True),
        (0, True, True, True),
        (0, False, True, True),
        (0, False, False, True),
    ]


def test_a_key_of_a_megabyte_is_left_out_with_a_note_and_the_outcome_stays_whole() -> None:
    """The record fits into the command topic, and its outcome, which is longer, nowhere."""
    key = b"k" * 1_000_000

    record = sent(largest(key), 1_000_000)

    headers = dict(record.headers)
    assert record.key is None
    assert headers["x-key-omitted"] == b"1000000"
    assert headers["x-key-sha256"].decode() == hashlib.sha256(key).hexdigest()
    assert len(decoded_outcome(record)["calls"]) == 100
    assert record.is_shortened


def test_a_key_that_was_too_large_to_be_kept_is_noted_by_size_and_hash() -> None:
    record = sent(outcome_for(0, 1, OmittedBytes(5_000_000, "ab" * 32)), 1_000_000)

    assert record.key is None
    assert dict(record.headers)["x-key-omitted"] == b"5000000"
    assert dict(record.headers)["x-key-sha256"] == b"ab" * 32
    assert record.is_shortened


def test_a_key_that_just_fits_is_kept() -> None:
    """The key is left out only when nothing else helps."""
    whole = sent(outcome_for(0, 1, b""), 1_000_000)
    room = 1_000_000 - whole.size - 200

    assert sent(outcome_for(0, 1, b"k" * (room - 200)), 1_000_000).key is not None
    assert sent(outcome_for(0, 1, b"k" * (room + 400)), 1_000_000).key is None


def test_at_some_kilobytes_each_user_still_has_a_status() -> None:
    outcome = decoded_outcome(sent(largest(), 14_000))

    assert [set(each) for each in outcome["results"]] == [{"user_id", "status", "error_code"}] * USERS
    assert "results_omitted" not in outcome


def test_at_the_smallest_limit_the_results_are_counted_and_the_id_stands_for_nothing() -> None:
    """The outcome no longer says what the id meant: after a restart a repeat must not be taken for a misuse of the id."""
    record = sent(largest(b"k" * 5000), SMALLEST_LIMIT)

    assert decoded_outcome(record)["results_omitted"] == USERS
    assert decoded_outcome(record)["command_id"] == '"' * 128
    assert known_of(record.value or b"") is None


@settings(deadline=None)
@given(
    limit=st.integers(SMALLEST_LIMIT, 200_000),
    key=st.sampled_from([None, 0, 10, 1_000_000]),
    text=st.sampled_from(['"', "\x01", "é", "𝄞", "x"]),
    action=st.sampled_from([0, 20, 900_000]),
)
def test_whatever_an_outcome_holds_its_record_fits(
    limit: int, key: int | None, text: str, action: int
) -> None:
    """Else the transaction that carries it could never be committed, and all partitions would stop."""
    outgoing = largest(None if key is None else b"k" * key, text * 512, action='"' * action)

    record = sent(outgoing, limit)

    assert wire_bytes(record) <= limit


@pytest.mark.parametrize("part", ["key", "value", "headers"])
def test_a_dead_letter_fits_whatever_its_record_holds(part: str) -> None:
    value = b"v" * (10**6 if part == "value" else 1)
    huge: dict[str, Any] = {"key": b"k" * 10**6, "headers": [("h" * 1000, None)] * 1000}
    changes = {name: each for name, each in huge.items() if name == part}
    letter = DeadLetter(record_of(0, 1, value, **changes), "commands", "commands-0-1", "not_json", "no JSON")

    (record,) = producer_records(transaction_of([], {}, [letter]), OPTIONS, {"letters": SMALLEST_LIMIT})

    assert wire_bytes(record) <= SMALLEST_LIMIT
    assert dict(record.headers)[f"x-{part}-omitted"]
