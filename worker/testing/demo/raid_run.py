# One raid on a running environment: produced, watched until every command has its outcome, and kept as evidence.
#
# Records are produced in a thread of their own, so that reading and showing progress do not slow them down. Nothing is
# judged or printed here; trouble comes from a ChaosInjector (chaos.py, or a test).

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from kafka import KafkaProducer
from kafka.errors import KafkaError

from worker.testing.checker.evidence import Evidence, ExpectedFate, ProducedCommand
from worker.testing.checker.simulator_log import read_log
from worker.testing.checker.topic_reader import TopicReader
from worker.testing.demo.environment import PARTITIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from worker.testing.checker.evidence import Interruption, PlannedRecord
    from worker.testing.demo.environment import DemoEnvironment
    from worker.testing.demo.scenario import Scenario

LARGEST_REQUEST: Final = 4 * 1024 * 1024
SEND_DEADLINE: Final = 60.0
CLOSE_DEADLINE: Final = 5.0
PACE: Final = 0.01
"""How often a paced load catches up, in seconds."""
STALLED: Final = 60.0
"""Give up after this many seconds without any progress."""
READ_DEADLINE: Final = 30.0
LOG_FLUSH: Final = 0.5
"""By then the simulator has written its log, in seconds (with a margin)."""


class LoadProducer:
    """
    Produces records in order, in a thread.

    Attributes:
        sent: The records that Kafka has acknowledged, with their partitions and offsets, in the order of its answers.

    """

    def __init__(
        self, bootstrap_servers: str, topic: str, records: Sequence[PlannedRecord], rate: float | None = None
    ) -> None:
        self.sent: list[ProducedCommand] = []
        self._records = records
        self._topic = topic
        self._rate = rate
        self._bootstrap_servers = bootstrap_servers
        self._error: BaseException | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def __repr__(self) -> str:
        return f"<LoadProducer {len(self.sent)} of {len(self._records)} sent>"

    def start(self) -> None:
        """Start producing, as fast as possible or at ``rate`` records per second."""
        self._thread.start()

    def close(self) -> None:
        """Stop producing and close the producer."""
        self._stopping = True
        if self._thread.ident is not None:
            self._thread.join(CLOSE_DEADLINE)

    @property
    def done(self) -> bool:
        """Whether every record is acknowledged. Raises KafkaError if one could not be produced."""
        if self._error is not None:
            raise KafkaError(f"the load could not be produced: {self._error}") from self._error
        return len(self.sent) == len(self._records)

    def _run(self) -> None:
        try:
            self._produce()
        except BaseException as exc:  # noqa: BLE001 - `done` raises it in the thread that asks
            self._error = exc

    def _produce(self) -> None:
        producer = KafkaProducer(
            bootstrap_servers=self._bootstrap_servers,
            compression_type="lz4",
            linger_ms=5,
            batch_size=128 * 1024,
            max_request_size=LARGEST_REQUEST,
        )
        try:
            self._send_all(producer)
            if not self._stopping:
                producer.flush(SEND_DEADLINE)
        finally:
            producer.close(CLOSE_DEADLINE)

    def _send_all(self, producer: KafkaProducer) -> None:
        begin = time.monotonic()
        for number, planned in enumerate(self._records):
            while (
                self._rate is not None
                and number > (time.monotonic() - begin) * self._rate
                and not self._stopping
            ):
                time.sleep(PACE)
            if self._stopping:
                return
            future = producer.send(self._topic, key=planned.key, value=planned.value)
            future.add_callback(self._acknowledged, planned)
            future.add_errback(self._refused)

    def _acknowledged(self, planned: PlannedRecord, metadata: Any) -> None:
        self.sent.append(
            ProducedCommand(planned, metadata.partition, metadata.offset, metadata.timestamp / 1000)
        )

    def _refused(self, error: BaseException) -> None:
        self._error = error


class ChaosInjector(Protocol):
    """What goes wrong on purpose during the raid."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to come."""

    @property
    def interruptions(self) -> Sequence[Interruption]:
        """When partitions may have moved before everything was published."""

    def advance(self, now: float) -> Sequence[str]:
        """Do what is due at this monotonic time and return its descriptions. Called several times a second."""


@dataclass(frozen=True, slots=True)
class FinishedRaid:
    """
    What a raid left behind, once it is over: the evidence, and how it ended.

    Attributes:
        raw: The bytes of each outcome, in the order of ``evidence.outcomes``.
        longest_stall: The simulator's longest stall, in seconds; beyond 0.2 its timestamps prove little.
        exit_codes: Of the replicas, by name; empty if they were left running.
        gave_up: Whether nothing came out for ``STALLED`` seconds.

    """

    evidence: Evidence
    raw: tuple[bytes, ...]
    longest_stall: float
    exit_codes: dict[str, int]
    gave_up: bool


def carry_out(
    environment: DemoEnvironment,
    scenario: Scenario,
    *,
    rate: float | None = None,
    chaos: ChaosInjector | None = None,
    keep: bool = False,
    show: Callable[[int, int, Sequence[str]], None] | None = None,
) -> FinishedRaid:
    """
    Produce the raid (``rate`` records per second, or all at once) and return when every outcome has been read.

    ``show`` gets the number of commands sent, the number of outcomes read, and the descriptions of new trouble. Unless
    ``keep`` is set, the replicas and the simulator are stopped, so that the evidence has everything that they did.
    """
    load = LoadProducer(environment.bootstrap_servers, environment.topics.commands, scenario.records, rate)
    reader = TopicReader(
        environment.bootstrap_servers,
        environment.topics.outcomes,
        environment.topics.dead_letters,
        PARTITIONS,
    )
    with contextlib.closing(reader), contextlib.closing(load):
        load.start()
        gave_up = not _watch(load, reader, wanted_outcomes(scenario), chaos, show)
        stall = environment.control("stats")["longest_stall_seconds"]
        exit_codes: dict[str, int] = {}
        if keep:
            time.sleep(LOG_FLUSH)
        else:
            exit_codes = dict(environment.stop_workers())
            environment.stop_simulator()
        reader.read_to_the_end(READ_DEADLINE)
    evidence = Evidence(
        topic=environment.topics.commands,
        sent=tuple(load.sent),
        outcomes=tuple(reader.read.outcomes),
        letters=tuple(reader.read.letters),
        requests=read_log(environment.simulator_log),
        bad_users=frozenset(scenario.bad_users),
        interruptions=tuple(chaos.interruptions) if chaos else (),
    )
    return FinishedRaid(evidence, tuple(reader.read.raw), stall, exit_codes, gave_up)


def wanted_outcomes(scenario: Scenario) -> int:
    """Return how many outcomes a raid must have: one for each record with a readable command_id."""
    return sum(record.fate is not ExpectedFate.UNREADABLE for record in scenario.records)


def _watch(
    load: LoadProducer,
    reader: TopicReader,
    wanted: int,
    chaos: ChaosInjector | None,
    show: Callable[[int, int, Sequence[str]], None] | None,
) -> bool:
    moved = time.monotonic()
    sent = 0
    while not (load.done and len(reader.read.outcomes) >= wanted and (chaos is None or chaos.is_over)):
        now = time.monotonic()
        if reader.poll() or len(load.sent) > sent:
            moved = now
        sent = len(load.sent)
        steps = chaos.advance(now) if chaos else ()
        if show is not None:
            show(sent, len(reader.read.outcomes), steps)
        if now - moved > STALLED:
            return False
    return True
