# A demo environment with its simulator and workers, loads that are put into the command topic, and what comes out of it.
#
# It starts, waits and gathers; the tests say what is claimed of a run, and worker/testing/checker/evidence_check.py judges it.
# The benchmarks run the same for longer.

from __future__ import annotations

import contextlib
import time
import urllib.error
import urllib.request
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec
from kafka import KafkaAdminClient, TopicPartition

from worker.testing.checker.contract import TARGET_FIELDS, CommandedEffect, outcome_id
from worker.testing.checker.evidence import Evidence, ExpectedFate, PlannedRecord
from worker.testing.checker.evidence_check import check
from worker.testing.checker.simulator_log import requests_of
from worker.testing.checker.topic_reader import TopicReader
from worker.testing.demo.environment import PARTITIONS, DemoEnvironment, ask_directly
from worker.testing.demo.raid_run import LoadProducer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from worker.testing.checker.contract import SeenMemberInfo
    from worker.testing.checker.evidence import Interruption, LoggedRequest, ProducedCommand, PublishedOutcome
    from worker.testing.checker.evidence_check import CheckReport
    from worker.testing.kafka.child_process import ChildProcess

LATENCY: Final = ("--latency", "0.03", "--latency-jitter", "0.5", "--apply-point", "random")
ANSWER_TIMEOUT: Final = 10.0
QUIET: Final = 60.0
"""So long may nothing at all come out of the topics, in seconds, before a wait for outcomes is given up."""


def command(
    action: str,
    target: str,
    users: str | Sequence[str],
    command_id: str,
    *,
    duration: int | None = None,
    reason: str | None = None,
    info: SeenMemberInfo | None = None,
) -> PlannedRecord:
    """A well-formed command under its target's key."""
    named = (users,) if isinstance(users, str) else tuple(users)
    body = {
        "command_id": command_id,
        "action": action,
        TARGET_FIELDS[action]: target,
        "user_ids": named,
        "duration": duration,
        "reason": reason,
        "member_info": info,
    }
    value = msgspec.json.encode({name: value for name, value in body.items() if value is not None})
    effect = CommandedEffect(action, duration=duration, reason=reason, info=info)
    return PlannedRecord(target.encode(), value, ExpectedFate.CARRIED_OUT, command_id, target, named, effect)


class Environment:
    """
    One run on processes whose Kafka is there already. A context manager: leaving it ends all that was started.

    Attributes:
        stage: The processes.
        reader: Outcomes and dead letters as far as they were read.
        loads: What was produced, load by load.
        breaks: When replicas were killed, for the checker.

    """

    def __init__(self, bootstrap_servers: str, *simulator: str, seed: int = 0) -> None:
        self.stage = DemoEnvironment(bootstrap_servers)
        self.loads: list[LoadProducer] = []
        self.breaks: list[Interruption] = []
        self._simulator = simulator
        self._seed = seed
        self._ends = contextlib.ExitStack()
        self.reader: TopicReader

    def __repr__(self) -> str:
        return f"<Environment on {self.stage!r}, {self.reader!r}>"

    def __enter__(self) -> Self:
        self._ends.callback(self.stage.close)
        try:
            self.stage.start_kafka()
            self.stage.start_simulator(*self._simulator, seed=self._seed)
            self.reader = TopicReader(
                self.stage.bootstrap_servers,
                self.stage.topics.outcomes,
                self.stage.topics.dead_letters,
                PARTITIONS,
            )
        except BaseException:
            self._ends.close()
            raise
        self._ends.callback(self.reader.close)
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    # Producing and reading

    def send(self, records: Sequence[PlannedRecord], rate: float | None = None) -> LoadProducer:
        """Begins to produce the records, at this rate or as fast as it can."""
        load = LoadProducer(self.stage.bootstrap_servers, self.stage.topics.commands, records, rate)
        self._ends.callback(load.close)
        self.loads.append(load)
        load.start()
        return load

    def play(self, seconds: float) -> None:
        """Lets the run go on for this many seconds, reading what comes out."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.reader.poll()
            self.look_at_workers()

    def play_until(self, come: Callable[[], bool], deadline: float, what: str) -> float:
        """Lets the run go on until ``come()``; returns how many seconds that took. Fails after ``deadline`` seconds."""
        begin = time.monotonic()
        while not come():
            if time.monotonic() - begin > deadline:
                raise AssertionError(f"not {what} within {deadline:g} s\n{self.tails()}")
            self.reader.poll()
            self.look_at_workers()
        return time.monotonic() - begin

    def play_to_the_end(self, deadline: float = QUIET) -> None:
        """
        Until every load is produced and each of its records has its outcome. Fails when nothing comes for ``deadline`` seconds.
        """
        moved = time.monotonic()
        while self.missing:
            if self.reader.poll():
                moved = time.monotonic()
            self.look_at_workers()
            if time.monotonic() - moved > deadline:
                raise AssertionError(
                    f"{self.missing} outcomes missing, none came for {deadline:g} s\n{self.tails()}"
                )

    @property
    def missing(self) -> int:
        """How many outcomes are still to come; at least one while a load goes on: an outcome may be faster than Kafka's answer."""
        done = all(load.done for load in self.loads)
        wanted = sum(len(load.sent) for load in self.loads)
        return max(0 if done else 1, wanted - len(self.reader.read.outcomes))

    def look_at_workers(self) -> None:
        """Fails when a worker has ended by itself."""
        for replica in self.stage.replicas:
            assert replica.running or replica.exit_code in {0, -9}, f"{replica!r}\n{replica.tail()}"

    def tails(self) -> str:
        """The ends of the workers' logs, for a message."""
        return "\n".join(f"{replica.name}:\n{replica.tail()}" for replica in self.stage.replicas)

    # What was seen

    @property
    def sent(self) -> list[ProducedCommand]:
        """All records that Kafka took."""
        return [sent for load in self.loads for sent in load.sent]

    @property
    def outcomes(self) -> list[PublishedOutcome]:
        """What was read of the outcomes."""
        return self.reader.read.outcomes

    def outcomes_of(self, load: LoadProducer) -> list[PublishedOutcome]:
        """What was read of the outcomes of one load, in the order of its records."""
        by_id = {one.body.outcome_id: one for one in self.outcomes}
        names = (outcome_id(self.stage.topics.commands, one.partition, one.offset) for one in load.sent)
        return [by_id[name] for name in names if name in by_id]

    def statuses(self) -> Counter[str]:
        """Outcomes by status."""
        return Counter(one.body.status for one in self.outcomes)

    def requests(self) -> list[LoggedRequest]:
        """What the API has logged so far."""
        # A line that is being written is left for the next look.
        whole, _, _ = self.stage.simulator_log.read_bytes().rpartition(b"\n")
        return list(requests_of(whole.splitlines()))

    def end(self) -> None:
        """Stops the workers, each of which must end well, and the simulator, and reads all topics to their ends."""
        for name, code in self.stage.stop_workers():
            assert code in {0, -9}, f"{name} ended with {code}\n{self.tails()}"
        self.stage.stop_simulator()
        self.reader.read_to_the_end(QUIET)

    def evidence(self, bad_users: frozenset[str] = frozenset()) -> Evidence:
        """Everything about the run, which must have ended."""
        read = self.reader.read
        return Evidence(
            self.stage.topics.commands,
            tuple(self.sent),
            tuple(read.outcomes),
            tuple(read.letters),
            tuple(self.requests()),
            bad_users,
            tuple(self.breaks),
        )

    def judged(self, bad_users: frozenset[str] = frozenset()) -> CheckReport:
        """Ends the run and has it judged by the demo's checker."""
        self.end()
        return check(self.evidence(bad_users))

    # Asking processes

    def control(self, method: str, path: str, body: object = None) -> Any:
        """Asks the simulator's control."""
        request = urllib.request.Request(  # noqa: S310 - an http address of this machine, which we have made
            f"{self.stage.api}/__control/{path}",
            method=method,
            data=None if body is None else msgspec.json.encode(body),
        )
        with ask_directly(request, timeout=ANSWER_TIMEOUT) as answer:
            return msgspec.json.decode(answer.read())

    def fault(self, **faults: object) -> None:
        """Sets faults: ``fault(outage="502", endpoint=…)``."""
        self.control("PATCH", "faults", faults)

    def ask(self, path: str, replica: int = 0) -> tuple[int, bytes]:
        """Status and body of a path of a worker's own HTTP; status 0 while it does not listen."""
        address = self.stage.worker_addresses()[replica]
        try:
            with ask_directly(f"{address}{path}", timeout=ANSWER_TIMEOUT) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.read()
        except OSError:
            return 0, b""

    def obstacles(self, replica: int = 0) -> list[dict[str, str]]:
        """What a worker's /readyz says to be in the way; empty when it is ready. A 503 without an obstacle fails."""
        status, body = self.ask("/readyz", replica)
        found: list[dict[str, str]] = msgspec.json.decode(body)["obstacles"]
        assert (status == 200) == (not found), (status, body)
        return found

    def obstacles_if_listening(self, replica: int = 0) -> list[dict[str, str]]:
        """As ``obstacles``; none, too, while the worker does not listen yet."""
        return self.obstacles(replica) if self.ask("/livez", replica)[0] else []

    def metric(self, name: str, replica: int = 0) -> float:
        """The sum of a metric's samples over its labels."""
        text = self.ask("/metrics", replica)[1].decode()
        lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return sum(float(value) for sample, _, value in lines if sample.partition("{")[0] == name)

    def events(self, name: str, replica: int = 0) -> list[dict[str, Any]]:
        """The lines that a worker has logged of one event, in order."""
        return [line for line in _lines(self.stage.replicas[replica]) if line.get("event") == name]

    @contextlib.contextmanager
    def admin(self) -> Iterator[KafkaAdminClient]:
        """An administrator of the cluster."""
        with contextlib.closing(KafkaAdminClient(bootstrap_servers=self.stage.bootstrap_servers)) as admin:
            yield admin

    def places(self) -> list[TopicPartition]:
        """The partitions of the command topic."""
        return [TopicPartition(self.stage.topics.commands, number) for number in range(PARTITIONS)]


def _lines(replica: ChildProcess) -> Iterator[dict[str, Any]]:
    for line in replica.log.read_bytes().splitlines():
        with contextlib.suppress(msgspec.DecodeError):  # what Python itself prints is no JSON
            event = msgspec.json.decode(line)
            if isinstance(event, dict):
                yield event


__all__ = ["LATENCY", "Environment", "command"]
