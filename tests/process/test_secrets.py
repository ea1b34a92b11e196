# P11: the key and the signatures made with it are in no log, no metric, no outcome and no dead letter, even at debug level.

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest
from kafka import KafkaConsumer, TopicPartition
from TLSSigAPIv2 import TLSSigAPIv2

from worker.testing.checker.contract import ADMINISTRATOR
from worker.testing.demo.environment import PARTITIONS, SDK_APP_ID, DemoEnvironment, ask_directly
from worker.testing.demo.raid_run import carry_out
from worker.testing.demo.scenario import plan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Cluster

SIGNATURE: Final = re.compile(rb"eJ[A-Za-z0-9*_-]{60,}")
"""What every UserSig looks like: zlib's first bytes in Tencent's base64."""


@pytest.fixture
def stage(kafka: Cluster) -> Iterator[DemoEnvironment]:
    with DemoEnvironment(kafka.bootstrap_servers) as stage:
        stage.start_kafka()
        yield stage


def test_the_pattern_knows_a_signature() -> None:
    assert SIGNATURE.search(TLSSigAPIv2(SDK_APP_ID, "0" * 64).gen_sig(ADMINISTRATOR, 86_400).encode())


@pytest.mark.kafka
def test_no_secret_comes_out_of_a_run_at_debug_level(stage: DemoEnvironment) -> None:
    """With refused connections and refused signatures among the calls: errors are where URLs like to come out."""
    raid = plan(300, seed=3)
    stage.start_simulator("--drop-before", "0.05", "--transient", "0.05")
    stage.control("faults", {"bad_user_list": raid.bad_users})
    stage.wait_until_ready(stage.start_worker({"log": {"level": "debug"}}))
    stage.control("faults", {"signature_expired": True, "for_seconds": 1.0})

    seen = carry_out(stage, raid, keep=True)
    metrics = ask_directly(f"{stage.worker_addresses()[0]}/metrics", timeout=10).read()
    stage.stop_workers()

    texts = {"log": stage.replicas[0].log.read_bytes(), "metrics": metrics, **_records(stage)}
    key = stage.key_file.read_bytes()
    assert len(seen.evidence.outcomes) > 250
    for name, text in texts.items():
        assert len(text) > 1000, name
        assert key not in text, name
        assert not SIGNATURE.search(text), name


def _records(stage: DemoEnvironment) -> dict[str, bytes]:
    """Everything in the outcome and dead-letter topics, headers included."""
    found = {}
    for topic in (stage.topics.outcomes, stage.topics.dead_letters):
        consumer = KafkaConsumer(bootstrap_servers=stage.bootstrap_servers, auto_offset_reset="earliest")
        places = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        consumer.assign(places)
        ends = consumer.end_offsets(places)
        text = b""
        while any(consumer.position(place) < end for place, end in ends.items()):
            for records in consumer.poll(timeout_ms=500).values():
                text += b"".join(repr((one.key, one.value, one.headers)).encode() for one in records)
        consumer.close(autocommit=False)
        found[topic] = text
    return found
