# The start may be ended at any moment: by a signal, while Kafka is away; and by a port that another has.

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from tests.unit.runtime.fakes import DEADLINE, run_scenario, settled, until
from tests.unit.settings.environment import load, minimal
from worker.errors import BrokerError, SettingsError
from worker.runtime.shutdown import (
    FAILED,
    LAST_LINES_SECONDS,
    SIGNALS,
    ShutdownRequest,
    StoppedEarlyError,
    drain,
    unless_stopped,
    until_stopped,
)
from worker.runtime.status_server import StatusServer
from worker.runtime.wiring import listen

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.runtime.fakes import RunnerHarness


FLUSHED: list[float] = []
"""
How many seconds the log was given for its last lines.
"""
LOGGED: list[tuple[str, dict[str, object]]] = []
"""
What was logged, with its fields.
"""


def _log(event: str, /, **fields: object) -> None:
    LOGGED.append((event, fields))


def run(step: Callable[[ShutdownRequest], Any]) -> Any:
    async def main() -> Any:
        stop = ShutdownRequest(_log, FLUSHED.append)
        try:
            return await step(stop)
        finally:
            for number in SIGNALS:
                asyncio.get_running_loop().remove_signal_handler(number)

    return asyncio.run(main())


def test_a_step_of_the_start_returns_what_it_made() -> None:
    assert run(lambda stop: unless_stopped(stop, lambda: 6)) == 6


def test_a_step_that_fails_fails_where_it_is_waited_for() -> None:
    def fail() -> None:
        raise BrokerError("Kafka is away")

    with pytest.raises(BrokerError, match="Kafka is away"):
        run(lambda stop: unless_stopped(stop, fail))


def test_a_signal_ends_a_step_that_hangs() -> None:
    """Kafka may take a minute to be given up; a pod that is stopped meanwhile must not wait for it, and must not count as failed."""
    release = threading.Event()

    def hang() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        release.wait(60)

    try:
        with pytest.raises(StoppedEarlyError, match="SIGTERM"):
            run(lambda stop: unless_stopped(stop, hang))
    finally:
        release.set()


@pytest.mark.parametrize("number", SIGNALS)
def test_every_signal_that_asks_for_a_stop_is_heard(number: signal.Signals) -> None:
    """SIGHUP, when a terminal is closed, killed the worker in the middle of its calls."""

    async def stopped(stop: ShutdownRequest) -> str:
        os.kill(os.getpid(), number)
        return await stop.wait()

    assert run(stopped) == number.name


def test_a_hang_up_that_is_ignored_as_by_nohup_stops_nothing() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)

    async def stopped(stop: ShutdownRequest) -> str:
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGINT)
        return await stop.wait()

    try:
        assert run(stopped) == "SIGINT"
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_after_a_step_is_heard_at_the_next() -> None:
    release = threading.Event()

    async def two(stop: ShutdownRequest) -> None:
        await unless_stopped(stop, lambda: None)
        os.kill(os.getpid(), signal.SIGINT)
        await unless_stopped(stop, lambda: release.wait(60))

    try:
        with pytest.raises(StoppedEarlyError, match="SIGINT"):
            run(two)
    finally:
        release.set()


def test_a_port_that_another_has_is_reported_as_the_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = load(minimal(server={"host": "127.0.0.1", "port": port}))
        server = StatusServer("127.0.0.1", port, pulse_age=float, obstacles=tuple, metrics=lambda: (b"", ""))

        with pytest.raises(SettingsError, match=rf"server\.port = {port}: .*in use"):
            asyncio.run(listen(server, settings))


@pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.1", "2001:db8::1"])
def test_a_host_that_is_not_this_machine_is_blamed_and_not_the_port(host: str) -> None:
    """An operator who reads of the port changes the port."""
    settings = load(minimal(server={"host": host, "port": 0}))
    server = StatusServer(host, 0, pulse_age=float, obstacles=tuple, metrics=lambda: (b"", ""))

    with (
        pytest.raises(SettingsError, match=r"^server\.host = "),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(listen(server, settings))


def test_a_second_signal_ends_the_process_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)

    async def two(stop: ShutdownRequest) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        assert await stop.wait() == "SIGTERM"
        assert codes == []
        os.kill(os.getpid(), signal.SIGINT)
        await until(lambda: bool(codes))

    run(two)

    assert codes == [FAILED]
    assert LOGGED == [("worker.killed", {"signal": "SIGINT"})]
    assert FLUSHED == [LAST_LINES_SECONDS]


def test_a_worker_that_runs_ends_with_a_signal_or_with_what_it_cannot_go_on_from() -> None:
    error = BrokerError("the poll thread has ended")
    ends: list[object] = []

    async def scenario(harness: RunnerHarness) -> None:
        stop = ShutdownRequest(lambda *_, **__: None, FLUSHED.append)
        harness.runner.failed(error)
        ends.append(await asyncio.wait_for(until_stopped(harness.runner, stop), DEADLINE))

    async def signalled(harness: RunnerHarness) -> None:
        stop = ShutdownRequest(lambda *_, **__: None, FLUSHED.append)
        running = asyncio.ensure_future(until_stopped(harness.runner, stop))
        await settled()
        assert not running.done()
        os.kill(os.getpid(), signal.SIGTERM)
        ends.append(await asyncio.wait_for(running, DEADLINE))

    run_scenario(scenario)
    run_scenario(signalled)

    assert ends == [error, "SIGTERM"]


def test_a_drain_takes_no_longer_than_its_time() -> None:
    async def scenario(harness: RunnerHarness) -> None:
        harness.engine.busy = {3}

        await asyncio.wait_for(drain(harness.runner, 0.01), DEADLINE)

        assert not harness.runner.drained.is_set()

    run_scenario(scenario)


def test_a_drain_ends_when_all_is_done_or_the_worker_cannot_go_on() -> None:
    async def scenario(harness: RunnerHarness) -> None:
        harness.engine.busy = {3}
        first = asyncio.ensure_future(drain(harness.runner, 60.0))
        await settled()
        assert not first.done()
        harness.engine.busy = set()
        harness.move()
        await asyncio.wait_for(first, DEADLINE)

    async def fault(harness: RunnerHarness) -> None:
        harness.engine.busy = {3}
        ended = asyncio.ensure_future(drain(harness.runner, 60.0))
        harness.runner.failed(BrokerError("the poll thread has ended"))
        await asyncio.wait_for(ended, DEADLINE)

    run_scenario(scenario)
    run_scenario(fault)
