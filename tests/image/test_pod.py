# The chart's pods, run from the image against a real Kafka and the simulated Tencent API: as user 10001, with a root that
# cannot be written, with the chart's settings, memory limit, grace and files.

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from tests.chart import chart
from tests.chart import toolchain as chart_tools
from tests.chart.missing import give_up
from tests.image.pods import Pod
from worker.domain.memory_budget import BASE_MIB, BUDGET_MIB, MEBIBYTE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tests.conftest import Cluster
    from tests.image.containers import Container, Engine

KEY = "a-key-that-only-this-test-knows"
READY_SECONDS = 60.0
DONE_SECONDS = 120.0
AT_ONCE = 10.0
KILLED = 137

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]


@dataclass(frozen=True)
class Simulated:
    """The simulated Tencent API as a process."""

    url: str
    log: Path

    def set_faults(self, **faults: object) -> None:
        """From now on."""
        body = json.dumps(faults).encode()
        request = urllib.request.Request(f"{self.url}/__control/faults", body, method="PATCH")  # noqa: S310 - our own
        with urllib.request.urlopen(request, timeout=10):  # noqa: S310 - our own
            pass

    def applied(self) -> list[tuple[str, str]]:
        """Every (group, user) that a request named and that was applied, once for each request."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [
            (line["target"], user)
            for line in lines
            if line["kind"] == "request" and line["error_code"] == 0
            for user in line["users"]
        ]


@pytest.fixture
def simulated(tmp_path: Path) -> Iterator[Simulated]:
    (tmp_path / "key").write_text(KEY)
    log = tmp_path / "simulator.jsonl"
    command = [
        sys.executable,
        "-m",
        "worker",
        "simulate",
        "--key-file",
        str(tmp_path / "key"),
        "--log",
        str(log),
    ]
    with subprocess.Popen([*command, "--latency", "0.03"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        yield Simulated(url, log)
        process.terminate()


@dataclass(frozen=True)
class Release:
    """The chart rendered for this Kafka and this API, and its pods."""

    engine: Engine
    image: str
    rendered: chart.Rendered
    cluster: Cluster
    folder: Path

    @property
    def port(self) -> int:
        return int(self.rendered.container()["ports"][0]["containerPort"])

    @property
    def topics(self) -> dict[str, Any]:
        return dict(self.rendered.settings()["kafka"])

    def pod(self, name: str, spec: chart.Object) -> Pod:
        return Pod(name, spec, self.rendered, {"tencent-chat": {"secret-key": KEY}}, self.folder / name)

    def worker(self) -> Pod:
        return self.pod(f"{chart.FULL_NAME}-0", self.rendered.pod())

    def get(self, probe: str) -> tuple[int, dict[str, Any]]:
        """What a probe of the pod is answered; status 0 when nobody listens."""
        http = self.rendered.container()[probe]["httpGet"]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{http['path']}", timeout=3) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, json.loads(refusal.read())
        except OSError:
            return 0, {}

    def produce(self, commands: Sequence[dict[str, Any]]) -> None:
        producer = KafkaProducer(bootstrap_servers=self.cluster.bootstrap_servers)
        for command in commands:
            value = json.dumps(command).encode()
            producer.send(self.topics["command_topics"][0], value, key=command["group_id"].encode())
        producer.flush()
        producer.close()

    def outcomes(self, enough: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """All outcomes, as soon as they are enough; those that there are after DONE_SECONDS."""
        topic = self.topics["outcome_topic"]
        consumer = KafkaConsumer(
            bootstrap_servers=self.cluster.bootstrap_servers,
            isolation_level="read_committed",
            enable_auto_commit=False,
        )
        consumer.assign([TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)])
        consumer.seek_to_beginning()
        found: list[dict[str, Any]] = []
        until = time.monotonic() + DONE_SECONDS
        while not enough(found) and time.monotonic() < until:
            for records in consumer.poll(timeout_ms=200).values():
                found += [json.loads(record.value) for record in records]
        consumer.close()
        return found


@pytest.fixture
def release(
    engine: Engine,
    image: str,
    kafka: Cluster,
    simulated: Simulated,
    fresh_name: Callable[[str], str],
    tmp_path: Path,
) -> Release:
    """A release with its topics made by the chart's own job."""
    try:
        chart_tools.program("helm")
    except chart_tools.MissingError as missing:
        give_up(missing)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    values: dict[str, Any] = {
        "settings.kafka.bootstrap_servers": [kafka.bootstrap_servers],
        "settings.kafka.group_id": fresh_name("group"),
        "settings.kafka.command_topics": [fresh_name("commands")],
        "settings.kafka.outcome_topic": fresh_name("outcomes"),
        "settings.kafka.dead_letter_topic": fresh_name("dead-letters"),
        "settings.server.port": port,
        "apps.main": {
            "sdk_app_id": 1400000000,
            "identifier": "administrator",
            "base_url": simulated.url,
            "existingSecret": {"name": "tencent-chat", "key": "secret-key"},
        },
        "topics.create": True,
        "topics.partitions": 6,
    }
    made = Release(engine, image, chart.render(values), kafka, tmp_path)
    (job,) = made.rendered.all("Job")
    ended = made.pod("topics", job["spec"]["template"]["spec"]).run(engine, image)
    assert ended.code == 0, ended.err
    return made


@contextlib.contextmanager
def _running(release: Release) -> Iterator[Container]:
    """The release's first pod; ready when the block begins."""
    container = release.worker().start(release.engine, release.image, f"pod-{secrets.token_hex(4)}")
    try:
        _await(lambda: release.get("readinessProbe")[0] == 200, container, READY_SECONDS)
        yield container
    finally:
        container.remove()


def _await(done: Callable[[], bool], container: Container, seconds: float) -> None:
    until = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < until, container.logs()[-3000:]
        time.sleep(0.1)  # asked like a probe: nobody tells when


def _bans(count: int, rooms: int = 5) -> list[dict[str, Any]]:
    return [
        {
            "command_id": f"ban-{number}",
            "action": "group.ban_group_member",
            "group_id": f"room-{number % rooms}",
            "user_ids": [f"user-{number}"],
            "duration": 3600,
        }
        for number in range(count)
    ]


def test_the_pod_of_helm_test_says_that_all_is_well(release: Release) -> None:
    ended = release.pod("check", release.rendered.one("Pod")["spec"]).run(release.engine, release.image)

    assert ended.code == 0, ended.out + ended.err
    assert "signs as administrator" in ended.out
    assert KEY not in ended.out + ended.err


def test_the_pod_carries_out_commands_and_stops_clean(release: Release, simulated: Simulated) -> None:
    release.produce(_bans(500))

    with _running(release) as container:
        outcomes = release.outcomes(lambda found: len(found) >= 500)
        exit_code = container.stop(release.worker().grace)
        log = container.logs()

    assert sorted(item["command_id"] for item in outcomes) == sorted(f"ban-{number}" for number in range(500))
    assert {item["status"] for item in outcomes} == {"succeeded"}
    assert {item["worker"]["name"] for item in outcomes} == {f"{chart.NAMESPACE}.{chart.FULL_NAME}-0"}
    assert len(simulated.applied()) == 500
    assert exit_code == 0
    stopped = json.loads(next(line for line in log.splitlines() if "worker.stopped" in line))
    assert stopped["left_open"] == 0
    assert KEY not in log


def test_every_probe_the_metrics_and_the_page_answer_where_the_chart_says(release: Release) -> None:
    with _running(release):
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert release.get(probe)[0] == 200
        path = chart.render(base="scram-keda").one("PodMonitor")["spec"]["podMetricsEndpoints"][0]["path"]
        with urllib.request.urlopen(f"http://127.0.0.1:{release.port}{path}", timeout=5) as answer:
            text = answer.read().decode()
        with urllib.request.urlopen(f"http://127.0.0.1:{release.port}/", timeout=5) as answer:
            page = answer.read().decode()

    assert "moderation_worker_build_info" in text
    assert page.startswith("<!doctype html>")


def test_the_images_own_check_is_green_while_the_worker_lives(release: Release) -> None:
    test = release.engine.inspect(release.image)["Healthcheck"]["Test"][1:]

    with _running(release) as container:
        done = container.execute("env", f"WORKER_SERVER__PORT={release.port}", *test)

    assert done.code == 0, done.err


def test_a_stop_in_mid_work_and_a_restart_repeat_no_call_and_no_outcome(
    release: Release, simulated: Simulated
) -> None:
    """The same pod comes back under its name: what it had done is done."""
    simulated.set_faults(latency=0.2)
    release.produce(_bans(2000, rooms=40))

    with _running(release) as container:
        begun = release.outcomes(lambda found: len(found) >= 100)
        exit_code = container.stop(release.worker().grace)
    assert exit_code == 0
    assert len(begun) < 2000, "it was stopped after the work, not in it"
    simulated.set_faults(latency=0.01)
    with _running(release):
        outcomes = release.outcomes(lambda found: len(found) >= 2000)

    assert sorted(item["command_id"] for item in outcomes) == sorted(
        f"ban-{number}" for number in range(2000)
    )
    applied = simulated.applied()
    assert len(applied) == len(set(applied)) == 2000


def test_a_wrong_key_makes_the_pod_not_ready_but_alive_and_a_fixed_secret_resumes_it(
    release: Release, simulated: Simulated
) -> None:
    """The fixed key arrives as a changed file of a mounted folder: no restart."""
    simulated.set_faults(wrong_key=True)
    release.produce(_bans(20))

    with _running(release) as container:
        _await(lambda: release.get("readinessProbe")[0] == 503, container, READY_SECONDS)
        report = release.get("readinessProbe")[1]
        alive = release.get("livenessProbe")[0]
        simulated.set_faults(wrong_key=False)
        outcomes = release.outcomes(lambda found: len(found) >= 20)
        _await(lambda: release.get("readinessProbe")[0] == 200, container, READY_SECONDS)

    assert "halted" in report["obstacles"][0]["reason"]
    assert report["obstacles"][0]["remedy"]
    assert alive == 200
    assert {item["status"] for item in outcomes} == {"succeeded"}


def test_the_pod_ends_at_once_when_it_is_stopped_in_its_first_moment(release: Release) -> None:
    """
    The first process of a container ignores SIGTERM until it says otherwise: a pod deleted during its start would hang
    for the whole grace.
    """
    pod = release.worker()
    container = pod.start(release.engine, release.image, f"pod-{secrets.token_hex(4)}")
    try:
        began = time.monotonic()
        exit_code = container.stop(AT_ONCE)
        took = time.monotonic() - began
    finally:
        container.remove()

    assert exit_code != KILLED
    assert took < AT_ONCE


def test_the_memory_of_the_pod_suffices_for_a_backlog(release: Release) -> None:
    """More commands wait when it starts than its memory holds: what does not fit stays in Kafka."""
    release.produce(_bans(80_000, rooms=50))

    with _running(release) as container:
        outcomes = release.outcomes(lambda found: len(found) >= 10_000)
        with urllib.request.urlopen(f"http://127.0.0.1:{release.port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        exit_code = container.stop(release.worker().grace)

    used = float(next(line for line in lines if line.startswith("process_resident_memory_bytes")).split()[1])
    limit = int(release.rendered.container()["resources"]["limits"]["memory"].removesuffix("Mi")) << 20
    assert len(outcomes) >= 10_000
    assert used <= (BUDGET_MIB + BASE_MIB) * MEBIBYTE <= limit, f"{used / MEBIBYTE:.0f} MiB"
    assert exit_code == 0
