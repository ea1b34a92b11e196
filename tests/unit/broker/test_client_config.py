# kafka-python's arguments: our defaults, then the operator's options, then what the promises depend on.

from __future__ import annotations

import re
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, errors
from kafka.producer.record_accumulator import RecordAccumulator

from worker.broker import client_config
from worker.broker.client_config import (
    admin_arguments,
    command_producer_arguments,
    consumer_arguments,
    contradictions,
    control_arguments,
    order_arguments,
    producer_arguments,
    quota_reader_arguments,
    quota_writer_arguments,
    reader_arguments,
)
from worker.broker.options import KafkaOptions

KINDS = [name for name in vars(client_config) if re.fullmatch("[a-z][a-z_]*_arguments", name)]
"""What makes the arguments of each kind of client."""


def options(**changes: Any) -> KafkaOptions:
    values: dict[str, Any] = {
        "bootstrap_servers": "kafka:9092",
        "group_id": "workers",
        "command_topic": "commands",
        "outcome_topic": "outcomes",
        "dead_letter_topic": "dead-letters",
        "client_name": "pod-0",
    }
    return KafkaOptions(**{**values, **changes})


def test_every_argument_is_one_that_kafka_python_has() -> None:
    assert set(consumer_arguments(options())) <= set(KafkaConsumer.DEFAULT_CONFIG)
    assert set(reader_arguments(options())) <= set(KafkaConsumer.DEFAULT_CONFIG)
    assert set(producer_arguments(options())) <= set(KafkaProducer.DEFAULT_CONFIG)
    assert set(admin_arguments(options())) <= set(KafkaAdminClient.DEFAULT_CONFIG)


def test_the_operators_arguments_win_over_ours_and_the_special_ones_over_the_common() -> None:
    given = options(
        common={"request_timeout_ms": 7000, "security_protocol": "SSL"}, consumer={"request_timeout_ms": 8000}
    )

    assert consumer_arguments(given)["request_timeout_ms"] == 8000
    assert producer_arguments(given)["request_timeout_ms"] == 7000
    assert {
        each(given)["security_protocol"] for each in (consumer_arguments, producer_arguments, admin_arguments)
    } == {"SSL"}


def test_a_common_argument_that_one_client_does_not_have_is_left_out_there() -> None:
    given = options(common={"fetch_max_bytes": 1000})

    assert consumer_arguments(given)["fetch_max_bytes"] == 1000
    assert "fetch_max_bytes" not in producer_arguments(given)


def test_what_the_promises_rest_on_cannot_be_changed() -> None:
    given = options(
        common={"isolation_level": "read_uncommitted"},
        consumer={"enable_auto_commit": True, "auto_offset_reset": "latest", "group_id": "other"},
        producer={"acks": 1, "transactional_id": "other"},
    )

    consumer, producer = consumer_arguments(given), producer_arguments(given)

    assert consumer["isolation_level"] == reader_arguments(given)["isolation_level"] == "read_committed"
    assert (consumer["enable_auto_commit"], consumer["auto_offset_reset"]) == (False, "none")
    assert (consumer["group_id"], producer["transactional_id"]) == ("workers", "workers-pod-0")
    assert producer["acks"] == "all"


AWKWARD: dict[str, Any] = {
    "group_id": "other",
    "enable_auto_commit": True,
    "auto_offset_reset": "earliest",
    "isolation_level": "read_committed",
    "fetch_max_wait_ms": 400,
    "fetch_min_bytes": 1000,
    "metadata_max_age_ms": 900_000,
    "acks": 0,
    "enable_idempotence": False,
    "retries": 9,
    "linger_ms": 700,
    "request_timeout_ms": 700,
    "delivery_timeout_ms": 9000,
    "max_block_ms": 9000,
    "allow_auto_create_topics": True,
}
LOOKS: dict[str, Any] = {"enable_auto_commit": False, "allow_auto_create_topics": False}


@pytest.mark.parametrize(
    ("kind", "fixed"),
    [
        ("reader_arguments", {**LOOKS, "group_id": "workers", "auto_offset_reset": "none"}),
        (
            "control_arguments",
            {
                **LOOKS,
                "group_id": None,
                "auto_offset_reset": "none",
                "isolation_level": "read_uncommitted",
                "fetch_max_wait_ms": 500,
                "metadata_max_age_ms": 5000,
            },
        ),
        (
            "quota_reader_arguments",
            {
                **LOOKS,
                "group_id": None,
                "auto_offset_reset": "latest",
                "isolation_level": "read_uncommitted",
                "fetch_min_bytes": 1,
            },
        ),
        ("order_arguments", {"acks": "all", "enable_idempotence": True, "linger_ms": 0}),
        (
            "quota_writer_arguments",
            {
                "acks": 1,
                "enable_idempotence": False,
                "retries": 0,
                "linger_ms": 0,
                "request_timeout_ms": 1000,
                "delivery_timeout_ms": 1001,
                "max_block_ms": 1000,
            },
        ),
        ("command_producer_arguments", {"acks": "all", "enable_idempotence": True}),
        ("producer_arguments", {"acks": "all", "enable_idempotence": True}),
    ],
)
def test_no_option_that_is_for_all_clients_changes_what_one_of_them_is_for(
    kind: str, fixed: dict[str, Any]
) -> None:
    made = getattr(client_config, kind)(options(common=AWKWARD))

    assert {name: made[name] for name in fixed} == fixed


def test_the_settings_of_the_membership_and_of_transactions_reach_kafka_python() -> None:
    given = options(
        instance_id="pod-0",
        session_timeout=21.0,
        heartbeat_interval=0.7,
        max_poll_interval=90.0,
        batch_records=70,
        publish_timeout=8.0,
        transaction_timeout=12.0,
        consumer={"metadata_max_age_ms": 7000},
    )
    consumer, producer = consumer_arguments(given), producer_arguments(given)

    assert {each(given)["bootstrap_servers"] for each in (consumer_arguments, admin_arguments)} == {
        "kafka:9092"
    }
    assert consumer["group_instance_id"] == "pod-0"
    assert consumer["session_timeout_ms"] == 21_000
    assert consumer["heartbeat_interval_ms"] == 700
    assert consumer["max_poll_interval_ms"] == 90_000
    assert consumer["max_poll_records"] == 70
    assert consumer["metadata_max_age_ms"] == quota_reader_arguments(given)["metadata_max_age_ms"] == 7000
    assert producer["max_block_ms"] == 8000
    assert producer["transaction_timeout_ms"] == 12_000


@pytest.mark.parametrize("kind", KINDS)
def test_each_client_notices_soon_that_a_broker_hangs_or_is_back(kind: str) -> None:
    """kafka-python would wait 30 s for each."""
    made = getattr(client_config, kind)(options())

    assert made["reconnect_backoff_max_ms"] == 2000
    if kind != "consumer_arguments":
        assert made["request_timeout_ms"] <= 15_000
    assert "pod-0" in made["client_id"]


def test_the_senders_producer_is_in_no_transaction() -> None:
    assert not {"transactional_id", "transaction_timeout_ms"} & command_producer_arguments(options()).keys()


@pytest.mark.parametrize("kind", KINDS)
def test_all_clients_sign_in_with_the_same_tokens(kind: str) -> None:
    tokens: Any = object()
    made = getattr(client_config, kind)(options(tokens=tokens, common={"sasl_mechanism": "PLAIN"}))

    assert made["sasl_mechanism"] == "OAUTHBEARER"
    assert made["sasl_oauth_token_provider"] is tokens
    assert "sasl_mechanism" not in getattr(client_config, kind)(options())


@pytest.mark.parametrize("kind", KINDS)
def test_no_client_keeps_an_idle_connection_as_long_as_a_balancer_does(kind: str) -> None:
    """They forget it after four minutes, often in silence; kafka-python would keep it for nine."""
    arguments = getattr(client_config, kind)

    assert arguments(options())["connections_max_idle_ms"] < 240_000
    assert arguments(options(common={"connections_max_idle_ms": 60_000}))["connections_max_idle_ms"] == 60_000


def test_the_record_limit_is_the_operators_if_given() -> None:
    assert options().record_limit == 1_000_000
    assert producer_arguments(options())["max_request_size"] == 1_000_000
    assert options(producer={"max_request_size": 2_000_000}).record_limit == 2_000_000


def test_passwords_are_not_shown() -> None:
    given = options(common={"sasl_plain_password": "hunter2"})

    assert "hunter2" not in repr(given)


class _MadeError(Exception):
    """The client got so far that it would connect."""


def _would_connect(**_: Any) -> None:
    raise _MadeError


def _kafka_python_takes(given: KafkaOptions) -> bool:
    for consumer in (consumer_arguments, reader_arguments, control_arguments, quota_reader_arguments):
        try:
            KafkaConsumer(**{**consumer(given), "kafka_client": _would_connect})
        except _MadeError:
            continue
        except errors.KafkaConfigurationError:
            return False
    for producer in (
        producer_arguments,
        command_producer_arguments,
        order_arguments,
        quota_writer_arguments,
    ):
        try:
            RecordAccumulator(**{**KafkaProducer.DEFAULT_CONFIG, **producer(given)})
        except errors.KafkaConfigurationError:
            return False
    return True


@pytest.mark.parametrize(
    ("producer", "flushed", "unflushed"),
    [
        ({}, 100, 5),
        ({"request_timeout_ms": 59_950}, 50, 5),
        ({"request_timeout_ms": 59_996}, 5, 5),
        ({"linger_ms": 7}, 7, 7),
    ],
    ids=["long", "as the timeouts allow", "never below the other producers'", "the operator's"],
)
def test_records_wait_for_a_flush_where_there_is_one(
    producer: dict[str, Any], flushed: int, unflushed: int
) -> None:
    assert producer_arguments(options(producer=producer))["linger_ms"] == flushed
    assert command_producer_arguments(options(producer=producer))["linger_ms"] == unflushed


@pytest.mark.parametrize(
    ("given", "setting"),
    [
        ({}, None),
        ({"consumer": {"fetch_max_wait_ms": 29_999}}, None),
        ({"consumer": {"fetch_max_wait_ms": 30_000}}, "kafka.consumer.fetch_max_wait_ms"),
        ({"consumer": {"request_timeout_ms": 500}}, "kafka.consumer.request_timeout_ms"),
        ({"consumer": {"request_timeout_ms": 540_000}}, "kafka.consumer.request_timeout_ms"),
        ({"consumer": {"connections_max_idle_ms": 30_000}}, "kafka.consumer.connections_max_idle_ms"),
        ({"common": {"connections_max_idle_ms": 10_000}, "consumer": {"request_timeout_ms": 9_000}}, "kafka.common.connections_max_idle_ms"),
        ({"common": {"request_timeout_ms": 400}}, "kafka.common.request_timeout_ms"),
        ({"common": {"request_timeout_ms": 400}, "consumer": {"request_timeout_ms": 9_000}}, "kafka.common.request_timeout_ms"),
        ({"common": {"request_timeout_ms": 40_000}}, None),
        ({"common": {"linger_ms": 20_000}}, None),
        ({"common": {"linger_ms": 50_000}}, None),
        ({"common": {"delivery_timeout_ms": 15_100}}, None),
        ({"producer": {"delivery_timeout_ms": 15_004}}, "kafka.producer.delivery_timeout_ms"),
        ({"producer": {"delivery_timeout_ms": 15_005}}, None),
        ({"producer": {"linger_ms": 60_000}}, "kafka.producer.linger_ms"),
        ({"producer": {"request_timeout_ms": 59_995}}, None),
        ({"producer": {"request_timeout_ms": 59_996}}, "kafka.producer.request_timeout_ms"),
    ],
)  # fmt: skip
def test_timeouts_are_refused_where_kafka_python_would_refuse_them_and_nowhere_else(
    given: dict[str, Any], setting: str | None
) -> None:
    """It raises when a client is made: at the start, or as late as an order is given, and then it looked like an outage."""
    found = [problem.name for problem in contradictions(options(**given))]

    assert found == ([] if setting is None else [setting])
    assert _kafka_python_takes(options(**given)) == (not found)
