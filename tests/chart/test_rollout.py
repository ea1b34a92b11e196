# Rollouts and scaling by the chart's own settings: real workers under the names of their pods, a real Kafka, a steady load. What
# a StatefulSet's controller would do (SIGTERM within the grace, the same name again, the highest number first) is done here.

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.chart import chart
from tests.chart.mounts import mounted
from tests.process.environment import LATENCY, Environment, command
from worker.testing.checker.contract import BAN, outcome_id
from worker.testing.demo.environment import WORKER, answers_ok
from worker.testing.kafka.child_process import ChildProcess
from worker.testing.kafka.embedded_kafka import free_ports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.conftest import Cluster

pytestmark = [pytest.mark.kafka, pytest.mark.usefixtures("helm"), pytest.mark.timeout(400)]

RATE: Final = 60.0
"""Commands a second: well below what one worker carries, on a machine that does other things too."""
ROOMS: Final = 24
READY_WITHIN: Final = 60.0
FEW_SECONDS: Final = 8.0
"""What a command may wait beyond the drain: its process starts, joins and restores."""
STEADY: Final = 6.0
"""Seconds of load before and after each change."""


@dataclass
class Pods:
    """The pods of one release, as processes."""

    environment: Environment
    running: dict[int, ChildProcess] = field(default_factory=dict)
    urls: dict[int, str] = field(default_factory=dict)
    grace: float = 0.0
    settings: Mapping[str, Any] = field(default_factory=dict)

    def start(self, number: int) -> None:
        """The pod with this number, with the chart's settings for this Kafka; returns when it is ready."""
        stage = self.environment.stage
        (port,) = free_ports(1)
        rendered = chart.render(
            {
                "settings.kafka.bootstrap_servers": stage.bootstrap_servers.split(","),
                "settings.kafka.group_id": stage.topics.commands.removesuffix(".commands"),
                "settings.kafka.command_topics": [stage.topics.commands],
                "settings.kafka.outcome_topic": stage.topics.outcomes,
                "settings.kafka.dead_letter_topic": stage.topics.dead_letters,
                "settings.server.port": port,
                "apps": {
                    "main": {
                        "sdk_app_id": 1_400_000_000,
                        "identifier": "administrator",
                        "base_url": stage.api,
                        "existingSecret": {"name": "tencent-chat", "key": "secret-key"},
                    }
                },
            },
        )
        self.grace, self.settings = (
            float(rendered.pod()["terminationGracePeriodSeconds"]),
            rendered.settings(),
        )
        name = f"{chart.FULL_NAME}-{number}"
        folder = stage.folder / name
        _, environment = mounted(rendered, folder, pod=name, secret=stage.key_file.read_text())
        process = ChildProcess(name, [*WORKER, "run"], stage.folder / f"{name}.log", environment=environment)
        process.start()
        self.running[number] = process
        self.urls[number] = f"http://127.0.0.1:{port}"
        self.play_until(lambda: answers_ok(f"{self.urls[number]}/readyz"), READY_WITHIN, f"{name} ready")

    def stop(self, number: int) -> int:
        """As a kubelet does: SIGTERM, SIGKILL after the grace. Returns the exit code."""
        process = self.running.pop(number)
        process.terminate()
        self.play_until(lambda: not process.running, self.grace, f"{process.name} ended")
        return int(process.wait(1))

    def play_until(self, come: Callable[[], bool], deadline: float, what: str) -> None:
        """Lets the load go on meanwhile."""
        self.environment.play_until(come, deadline, what)

    def events(self, number: int, event: str) -> int:
        """How often a pod's log has an event, over all its lives."""
        text = (self.environment.stage.folder / f"{chart.FULL_NAME}-{number}.log").read_text()
        return sum(f'"{event}"' in line for line in text.splitlines())


@pytest.fixture
def pods(kafka: Cluster) -> Iterator[Pods]:
    """Two pods of a release, ready."""
    with Environment(kafka.bootstrap_servers, *LATENCY) as environment:
        made = Pods(environment)
        try:
            for number in (0, 1):
                made.start(number)
            yield made
        finally:
            for number in sorted(made.running, reverse=True):
                made.stop(number)


def _load(pods: Pods, seconds: float) -> None:
    """A steady stream of bans, each of another user."""
    records = [
        command(BAN, f"room-{number % ROOMS}", f"user-{number}", f"ban-{number}", duration=3600)
        for number in range(int(RATE * seconds))
    ]
    pods.environment.send(records, RATE)


def _waits(pods: Pods) -> list[float]:
    """
    For each command, the seconds from its record to that of its outcome, after the end of the load. Every one has exactly one.
    """
    environment = pods.environment
    environment.play_to_the_end()
    published = Counter(one.body.outcome_id for one in environment.outcomes)
    at = {one.body.outcome_id: one.at for one in environment.outcomes}
    names = {
        outcome_id(environment.stage.topics.commands, one.partition, one.offset): one.at
        for one in environment.sent
    }
    assert published == Counter(names.keys())
    assert set(environment.statuses()) == {"succeeded"}
    waits = [at[name] - began for name, began in names.items()]
    print(f"longest wait {max(waits):.1f} s of {len(waits)}")  # noqa: T201 - shown with -s: the figure that the page quotes
    return waits


def _repeated(pods: Pods) -> list[tuple[str, str]]:
    """Users that the API was called for more than once."""
    called = Counter(
        (request.target, user) for request in pods.environment.requests() for user in request.users
    )
    return [name for name, times in called.items() if times > 1]


def test_a_rolling_restart_delays_no_command_beyond_the_drain_and_repeats_no_call(pods: Pods) -> None:
    """The pods come back under their names within the session timeout: no partition moves."""
    drain = float(pods.settings["drain_seconds"])
    _load(pods, 50)
    pods.environment.play(STEADY)
    moved = pods.events(0, "partitions.revoked")

    codes = []
    for number in (1, 0):
        codes.append(pods.stop(number))
        pods.start(number)
        pods.environment.play(STEADY)

    waits = _waits(pods)
    assert codes == [0, 0]
    assert max(waits) <= drain + FEW_SECONDS
    assert _repeated(pods) == []
    assert pods.events(0, "partitions.revoked") - moved <= 1, (
        "its own stop; the other's restart took nothing from it"
    )


def test_scaling_from_two_to_four_and_back_delays_no_command_beyond_drain_and_session(pods: Pods) -> None:
    """
    A pod that goes for good is a static member that is missed: its partitions wait for the session timeout, which the chart
    sets short.
    """
    drain = float(pods.settings["drain_seconds"])
    session = pods.settings["kafka"]["consumer"]["session_timeout_ms"] / 1000
    _load(pods, 90)
    pods.environment.play(STEADY)

    for number in (2, 3):
        pods.start(number)
    pods.environment.play(STEADY)
    codes = [pods.stop(number) for number in (3, 2)]
    pods.environment.play(STEADY)

    waits = _waits(pods)
    assert codes == [0, 0]
    assert max(waits) <= drain + session + FEW_SECONDS
    assert _repeated(pods) == []
