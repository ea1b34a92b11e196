# How long `outcomes` and its siblings take on a topic with a million outcomes: an embedded Kafka, the real commands.
#
# By hand, on a quiet machine: .venv/bin/python -m tests.benchmarks.bench_lookup [--outcomes 1000000]
# With --keep the broker stays, and its settings file is printed, so that other questions can be tried.

from __future__ import annotations

import argparse
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
from kafka import KafkaAdminClient, KafkaProducer

from worker.domain.contract.dead_letter_encoding import DeadLetter, fit
from worker.domain.contract.outcomes import (
    AttemptRecord,
    Outcome,
    OutcomeError,
    Result,
    ResultStatus,
    Source,
    Status,
    Worker,
)
from worker.domain.contract.parameters import Parameters
from worker.domain.contract.placement_check import partition_of
from worker.domain.contract.timestamps import rfc3339
from worker.testing.kafka.embedded_kafka import EmbeddedKafka

if TYPE_CHECKING:
    from collections.abc import Iterator

PARTITIONS: Final = 6
ROOMS: Final = 500
USERS: Final = 40_000
ISSUERS: Final = ("spam-detector", "raid-detector", "moderator-desk", "mad-detector")
HOURS: Final = 6.0
LETTERS: Final = 10_000
QUESTIONS: Final = (
    ("outcomes", "--user", "user-7", "--since", "7h", "--limit", "100000"),
    ("outcomes", "--command-id", "command-17", "--since", "7h"),
    ("outcomes", "--status", "failed", "--since", "7h", "--by", "target"),
    ("outcomes", "--since", "7h", "--by", "target"),
    ("outcomes", "--since", "7h", "--by", "user"),
    ("outcomes", "--since", "7h", "--by", "error_code"),
    ("outcomes", "--since", "3h", "--until", "175m"),
    ("outcomes", "--status", "waiting"),
    ("outcomes", "--issuer", "mad-detector", "--since", "7h", "--by", "status"),
    ("dead-letters", "list", "--since", "7h", "--by", "code"),
    ("dead-letters", "replay", "--since", "7h", "--code", "10019"),
    ("undo", "--issuer", "mad-detector", "--since", "1h"),
)


class Letter(msgspec.Struct):
    """The record of a dead letter."""

    partition: int
    offset: int
    key: bytes
    value: bytes
    headers: tuple[()] = ()


def made(count: int, now: float) -> Iterator[tuple[int, bytes, Outcome]]:
    """Yield partition, key and outcome: bans, of which one in a hundred failed."""
    dice = random.Random(1)
    offsets = [0] * PARTITIONS
    for number in range(count):
        target = f"group-{dice.randrange(ROOMS)}"
        users = [f"user-{dice.randrange(USERS)}" for _ in range(dice.choice((1, 1, 1, 2, 5)))]
        failed = number % 100 == 0
        at = rfc3339(now - HOURS * 3600 * (1 - number / count))
        partition = partition_of(target.encode(), PARTITIONS)
        source = Source("commands", partition, offsets[partition])
        offsets[partition] += 1
        call = AttemptRecord(f"c-{number}", "group_open_http_svc/ban_group_member", at, 31.0, 20, None, 200)
        results = [
            Result(user, ResultStatus.FAILED, None, 10019, "the account does not exist")
            if failed
            else Result(user, ResultStatus.APPLIED)
            for user in dict.fromkeys(users)
        ]
        yield (
            partition,
            target.encode(),
            Outcome(
                outcome_id=source.outcome_id,
                command_id=f"command-{number}",
                status=Status.FAILED if failed else Status.SUCCEEDED,
                source=source,
                worker=Worker("moderation-worker-0", "1.0.0"),
                received_at=at,
                finished_at=at,
                queued_ms=12.5,
                attempts=1,
                action="group.ban_group_member",
                app="main",
                group_id=target,
                issuer=ISSUERS[0 if number % 51 else 3] if number % 2 else ISSUERS[number // 2 % 3],
                issued_at=at,
                parameters=Parameters(duration=86_400, reason="spam in the room"),
                results=results,
                calls=[call],
                calling_ms=31.0,
                error=OutcomeError("10019", "the account does not exist") if failed else None,
            ),
        )


def command_of(outcome: Outcome) -> bytes:
    return msgspec.json.encode(
        {
            "command_id": outcome.command_id,
            "action": outcome.action,
            "group_id": outcome.group_id,
            "user_ids": [result.user_id for result in outcome.results],
            "duration": 86_400,
            "reason": "spam in the room",
            "issuer": outcome.issuer,
        }
    )


def filled(servers: str, count: int) -> None:
    """Fill the topics, with the timestamps of the last hours."""
    admin = KafkaAdminClient(bootstrap_servers=servers)
    spec = {"num_partitions": PARTITIONS, "replication_factor": 1}
    admin.create_topics(dict.fromkeys(("commands", "outcomes", "letters"), spec), wait_for_metadata=True)
    admin.close()
    settings: dict[str, Any] = {"compression_type": "lz4", "batch_size": 256 * 1024, "linger_ms": 50}
    producer = KafkaProducer(bootstrap_servers=servers, acks=1, **settings)
    now, encoder = time.time(), msgspec.json.Encoder()
    for number, (partition, key, outcome) in enumerate(made(count, now)):
        at = round((now - HOURS * 3600 * (1 - number / count)) * 1000)
        headers = [("command_id", outcome.command_id.encode()), ("status", outcome.status.encode())]
        producer.send("outcomes", encoder.encode(outcome), key, headers, partition, at)
        if outcome.error is not None:
            value = command_of(outcome)
            letter = fit(
                DeadLetter(
                    Letter(partition, outcome.source.offset, key, value),
                    "commands",
                    outcome.outcome_id,
                    outcome.error.code,
                    outcome.error.message,
                ),
                1_000_000,
            )
            producer.send("letters", letter.value, letter.key, letter.headers, None, at)
    producer.flush()
    producer.close()


def settings_in(folder: Path, servers: str) -> Path:
    (folder / "key").write_text("k" * 64)
    path = folder / "worker.yaml"
    path.write_text(
        f"kafka: {{bootstrap_servers: '{servers}', command_topics: [commands], outcome_topic: outcomes, "
        "dead_letter_topic: letters}\n"
        "tencent:\n  default_app: main\n  apps:\n    main: {sdk_app_id: 1400000000, identifier: administrator, "
        f"secret_key_file: {folder / 'key'}, region: singapore}}\n"
    )
    return path


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--outcomes", type=int, default=1_000_000)
    parser.add_argument("--keep", action="store_true")
    given = parser.parse_args()
    broker = EmbeddedKafka()
    broker.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            config = settings_in(Path(folder), broker.bootstrap_servers)
            began = time.monotonic()
            filled(broker.bootstrap_servers, given.outcomes)
            print(f"{given.outcomes:,} outcomes written in {time.monotonic() - began:.0f} s", flush=True)
            for question in QUESTIONS:
                began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
                done = subprocess.run(
                    [sys.executable, "-m", "worker", *question, "--config", str(config)],
                    capture_output=True,
                    text=True,
                    check=False,
                )
                after = resource.getrusage(resource.RUSAGE_CHILDREN)
                cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
                print(
                    f"{time.monotonic() - began:6.2f} s, {cpu:5.2f} s of CPU, exit {done.returncode}, "
                    f"{len(done.stdout.splitlines()):,} lines: {' '.join(question)}",
                    flush=True,
                )
                if done.returncode not in (0, 3, 4, 7):
                    print(done.stderr[-1000:])
            if given.keep:
                print(f"kept: --config {config}", flush=True)
                sys.stdin.read()
    finally:
        broker.stop()


if __name__ == "__main__":
    main()
