# How the parts are joined, where that alone keeps a promise.

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.runtime.fakes import DEADLINE, run_scenario, until
from tests.unit.settings.environment import KEY, load, minimal
from worker.broker import topic_admin
from worker.broker.topic_admin import Topic, WorkerTopics
from worker.errors import FencedError, SettingsError
from worker.runtime import wiring
from worker.runtime.options_from_settings import kafka_options
from worker.runtime.shutdown import CLEAN, FAILED
from worker.runtime.wiring import _fitting_topics, _keep_thread_for_stop, _stop_in_order

if TYPE_CHECKING:
    from tests.unit.runtime.fakes import RunnerHarness
    from worker.domain.effects import LogEvent


class RecordingLog:
    """A log that remembers in which order it was used."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def hide(self, secret: str) -> None:
        self.calls.append(f"hide {secret}")

    def event(self, event: LogEvent) -> None:
        self.calls.append(f"log {event.event}")


def test_what_is_started_ends_before_the_group_is_left_and_the_publisher_comes_last() -> None:
    """A handover has less time than a drain, and publishes through the publisher."""

    async def scenario(harness: RunnerHarness) -> None:
        ended: list[str] = []
        parts: Any = SimpleNamespace(
            runner=harness.runner,
            consumer=SimpleNamespace(close=lambda _: ended.append("consumer")),
            publisher=SimpleNamespace(close=lambda _: ended.append("publisher")),
        )
        harness.engine.busy = {3}
        settings = load(minimal())
        log: Any = lambda *_, **__: None  # noqa: E731
        end = asyncio.ensure_future(_stop_in_order(parts, settings, log, "SIGTERM"))
        await until(lambda: bool(ended) or "stopping" in harness.engine.event_names())
        assert ended == []
        harness.engine.busy = set()
        harness.move()

        assert await asyncio.wait_for(end, DEADLINE) == CLEAN
        assert ended == ["consumer", "publisher"]

    run_scenario(scenario)


def test_an_error_during_the_drain_is_logged_and_gives_another_exit_code() -> None:
    async def scenario(harness: RunnerHarness) -> None:
        nothing = SimpleNamespace(close=lambda _: True)
        parts: Any = SimpleNamespace(runner=harness.runner, consumer=nothing, publisher=nothing)
        harness.engine.busy = {3}
        logged: list[str] = []
        log: Any = lambda event, **_: logged.append(event)  # noqa: E731
        end = asyncio.ensure_future(_stop_in_order(parts, load(minimal()), log, "SIGTERM"))
        await until(lambda: "stopping" in harness.engine.event_names())
        harness.runner.failed(FencedError("another process has the name"))

        assert await asyncio.wait_for(end, DEADLINE) == FAILED
        assert logged == ["worker.stopping", "worker.failed", "worker.stopped"]

    run_scenario(scenario)


@pytest.mark.parametrize(
    ("cause", "finished", "left"),
    [("SIGTERM", True, 0), ("SIGTERM", False, 1), ("a bug", True, 0), ("a bug", False, 1)],
)
def test_what_is_left_open_is_counted_after_the_handover(cause: str, finished: bool, left: int) -> None:
    """It was counted before: after a failure, all that the handover then finished and published was reported as left."""

    async def scenario(harness: RunnerHarness) -> None:
        harness.engine.busy, harness.engine.open_count = {3}, 1
        logged: dict[str, dict[str, Any]] = {}

        def hand_over(_: float) -> None:
            done = harness.runner.revoking([3])
            if finished:
                harness.engine.busy = set()
                harness.runner.received([])
            done.result(DEADLINE)
            harness.engine.open_count = 0

        parts: Any = SimpleNamespace(
            runner=harness.runner,
            consumer=SimpleNamespace(close=hand_over),
            publisher=SimpleNamespace(close=lambda _: True),
        )
        log: Any = lambda event, **fields: logged.update({event: fields})  # noqa: E731
        why = cause if cause == "SIGTERM" else FencedError(cause)
        settings: Any = SimpleNamespace(drain_seconds=0.01, kafka=SimpleNamespace(handover_seconds=0.05))
        await _stop_in_order(parts, settings, log, why)

        assert logged["worker.stopped"]["left_open"] == left

    run_scenario(scenario, handover_seconds=0.05)


def test_a_stop_needs_no_new_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the machine had none left, the group was not left, and nothing was handed over: the stop was a crash."""

    async def scenario(harness: RunnerHarness) -> None:
        ended: list[str] = []
        _keep_thread_for_stop()
        parts: Any = SimpleNamespace(
            runner=harness.runner,
            consumer=SimpleNamespace(close=lambda _: ended.append("consumer")),
            publisher=SimpleNamespace(close=lambda _: ended.append("publisher")),
        )
        log: Any = lambda *_, **__: None  # noqa: E731

        def refuse(_: object) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as exhausted:
            exhausted.setattr(threading.Thread, "start", refuse)
            code = await _stop_in_order(parts, load(minimal()), log, "SIGTERM")

        assert code == CLEAN
        assert ended == ["consumer", "publisher"]

    run_scenario(scenario)


@pytest.mark.parametrize("busy", [{3}, set()])
def test_a_drain_that_waits_in_vain_is_cut_short_and_the_log_says_so(busy: set[int]) -> None:
    async def scenario(harness: RunnerHarness) -> None:
        harness.engine.busy = busy
        harness.runner.refuse_work("another topic has the name", can_publish=False)
        logged: list[str] = []
        nothing = SimpleNamespace(close=lambda _: True)
        parts: Any = SimpleNamespace(runner=harness.runner, consumer=nothing, publisher=nothing)
        log: Any = lambda event, **_: logged.append(event)  # noqa: E731

        end = _stop_in_order(parts, load(minimal()), log, "SIGTERM")

        assert await asyncio.wait_for(end, DEADLINE) == CLEAN
        assert logged == ["worker.stopping", *(["drain.cut_short"] if busy else []), "worker.stopped"]

    run_scenario(scenario)


def test_every_secret_of_the_settings_is_hidden_from_the_first_line_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    password = {"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "sasl_plain_username": "u"}
    settings = load(minimal(kafka={"common": {**password, "sasl_plain_password": "the-password"}}))
    hidden: list[str] = []

    def configure(_: str, __: str, secrets: tuple[str, ...]) -> None:
        hidden.extend(secrets)
        raise EOFError

    monkeypatch.setattr(wiring, "configure_logging", configure)
    with pytest.raises(EOFError):
        wiring.run(settings)

    assert set(hidden) == {KEY, "the-password"}


def test_a_worker_does_not_start_with_a_limit_below_the_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(minimal(limits={"calls_per_second": 11}))
    kafka = settings.kafka
    names = (kafka.command_topics[0], kafka.outcome_topic, kafka.dead_letter_topic)
    report = WorkerTopics(*(Topic(name, 12) for name in names))
    monkeypatch.setattr(topic_admin, "inspect", lambda _: report)

    with pytest.raises(SettingsError, match="calls_per_second"):
        _fitting_topics(settings, kafka_options(settings, "name"))
