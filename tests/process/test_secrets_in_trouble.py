# P11 when everything goes wrong: halts, a wrong key, a rotated one, 502s, cut answers, resets and timeouts, at debug level.
#
# Errors are where URLs like to come out. That the search finds them in the same texts is proven first.

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from kafka import KafkaConsumer, TopicPartition
from TLSSigAPIv2 import TLSSigAPIv2

from tests.process.environment import LATENCY, Environment, command
from tests.process.halting import another_key, new_key_in_the_file
from tests.process.leaks import leaks
from worker.testing.checker.contract import ADMINISTRATOR, BAN
from worker.testing.checker.evidence import ExpectedFate, PlannedRecord
from worker.testing.demo.environment import PARTITIONS, SDK_APP_ID

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Cluster

REASON = "payload-of-a-command"
COUNT = 240
RATE = 80.0
NOTICED_WITHIN = 20.0
KEY = "3f9a5c0d1b7e48266a0cf2d98e4b71535d27c1e80fa6b394862de0475c1b9fa8"
OTHER_KEY = KEY[::-1]
SIGNATURE = TLSSigAPIv2(SDK_APP_ID, KEY).gen_sig(ADMINISTRATOR, 86_400)


@pytest.mark.parametrize(
    "secret",
    {
        "a key": KEY,
        "the middle of a key": KEY[20:40],
        "a key in capitals": KEY.upper(),
        "a key as bytes": repr(KEY.encode()),
        "a signature": SIGNATURE,
        "a signature in a URL": f"/v4/x?usersig={quote(SIGNATURE, safe='')}&random=1",
        "a signature in a URL in a URL": quote(quote(SIGNATURE, safe=""), safe=""),
        "a signature that was cut": SIGNATURE[: len(SIGNATURE) // 2],
    }.items(),
    ids=lambda item: str(item[0]),
)
def test_what_is_looked_for_would_be_found(secret: tuple[str, str]) -> None:
    around = b'{"event":"batch.answered","text":"%s and more"}\n'

    assert leaks(around % secret[1].encode(), [KEY])
    assert not leaks(around % b"eJustATextThatLooksLikeOneButIsNone0000", [KEY])
    assert not leaks(around % OTHER_KEY.encode(), [KEY])


@pytest.fixture(scope="module")
def texts(kafka: Cluster) -> Iterator[tuple[dict[str, bytes], list[str]]]:
    """Everything that the run has written, and the keys that were used in it."""
    with Environment(kafka.bootstrap_servers, *LATENCY) as environment:
        worker = environment.stage.start_worker({"log": {"level": "debug"}, "http": {"timeout_seconds": 3.1}})
        environment.fault(bad_user_list=["user-7", "user-77"])
        environment.stage.wait_until_ready(worker)
        environment.send([command(BAN, "warm-up", "user", "warm-up", duration=60)])
        environment.play_to_the_end()
        keys = [environment.stage.key_file.read_text("utf-8")]
        served = trouble(environment, keys)
        name = environment.stage.topics
        environment.end()
        yield (
            {
                "the worker's log": worker.log.read_bytes(),
                "the simulator's log": environment.stage.simulator_log.read_bytes(),
                "what the simulator printed": (environment.stage.folder / "simulator.log").read_bytes(),
                "outcomes": records(environment, name.outcomes),
                "dead letters": records(environment, name.dead_letters),
                **served,
            },
            keys,
        )


def trouble(environment: Environment, keys: list[str]) -> dict[str, bytes]:
    """Lets everything go wrong, and returns what the worker's own HTTP said meanwhile."""
    faults = ("bad_gateway", "drop_before", "drop_after", "cut_body", "transient")
    environment.fault(**dict.fromkeys(faults, 0.06), hang=0.02)
    environment.send([*commands(), PlannedRecord(b"x", b"no JSON", ExpectedFate.UNREADABLE)], RATE)
    environment.play(1.0)
    environment.fault(**dict.fromkeys(faults, 0.0), hang=0.0)
    environment.fault(outage="refuse", for_seconds=0.7)
    environment.play(0.8)
    another_key(environment)
    environment.play_until(lambda: bool(environment.obstacles()), NOTICED_WITHIN, "halted")
    served = {"/readyz": environment.ask("/readyz")[1]}
    new_key_in_the_file(environment)
    keys.append(environment.stage.key_file.read_text("utf-8"))
    environment.play_until(lambda: not environment.obstacles(), NOTICED_WITHIN, "resumed")
    environment.fault(signature_expired=True, for_seconds=1.0)
    environment.play_until(
        lambda: environment.missing <= 1, NOTICED_WITHIN, "carried out"
    )  # the record that is no JSON has no outcome
    served["/metrics"] = environment.ask("/metrics")[1]
    return served


def commands() -> list[PlannedRecord]:
    return [
        command(BAN, f"group-{each % 20}", f"user-{each}", f"ban-{each}", duration=3600, reason=REASON)
        for each in range(COUNT)
    ]


def records(environment: Environment, topic: str) -> bytes:
    consumer = KafkaConsumer(
        bootstrap_servers=environment.stage.bootstrap_servers, auto_offset_reset="earliest"
    )
    places = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    consumer.assign(places)
    ends = consumer.end_offsets(places)
    text = b""
    while any(consumer.position(place) < end for place, end in ends.items()):
        for polled in consumer.poll(timeout_ms=500).values():
            text += b"\n".join(repr((one.key, one.value, one.headers)).encode() for one in polled)
    consumer.close(autocommit=False)
    return text


@pytest.mark.kafka
def test_no_key_and_no_signature_comes_out_of_a_run_in_which_everything_goes_wrong(
    texts: tuple[dict[str, bytes], list[str]],
) -> None:
    written, keys = texts

    assert len(set(keys)) == 2
    assert {name for name, text in written.items() if len(text) < 50} == set()
    assert {name: found for name, text in written.items() if (found := leaks(text, keys))} == {}


@pytest.mark.kafka
def test_a_log_at_debug_level_tells_of_all_that_trouble_and_of_no_payload(
    texts: tuple[dict[str, bytes], list[str]],
) -> None:
    log = texts[0]["the worker's log"]

    for event in (b"app.halted", b"app.resumed", b"breaker.opened", b"signature.key_changed"):
        assert b'"event":"%s"' % event in log, event
    assert b'"level":"info","event":"library.logged"' in log, (
        "only at debug level do libraries log what is no warning"
    )
    assert REASON.encode() in texts[0]["outcomes"]
    assert REASON.encode() not in log
    assert b"user-77" not in log
