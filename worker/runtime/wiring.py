# Wiring: builds all parts from the settings, joins them, runs them, and ends them in order.
#
# The only module that knows every concrete part. It decides nothing about commands.
# Not here: which settings each part takes (options_from_settings.py), signals and the drain (shutdown.py).

from __future__ import annotations

import asyncio
import errno
import gc
import secrets
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import uvloop

from worker import BEGAN, __version__
from worker.broker import topic_admin
from worker.broker.active_kafka_refusals import ActiveKafkaRefusals
from worker.broker.consumer import Consumer
from worker.broker.control_follower import ControlFollower
from worker.broker.control_topic import write_record
from worker.broker.partition_restore import PartitionRestorer
from worker.broker.publisher import Publisher
from worker.broker.quota_channel import QuotaChannel
from worker.domain.contract.command_decoding import CommandDecoder
from worker.domain.contract.outcomes import Worker
from worker.domain.engine import Engine
from worker.domain.progress.dedupe import known_of
from worker.errors import BrokerError, SettingProblem, SettingsError
from worker.runtime import shutdown
from worker.runtime.call_runner import CallLog
from worker.runtime.engine_runner import EngineRunner
from worker.runtime.failed_command_log import FailedCommandLog
from worker.runtime.logging_setup import configure_logging
from worker.runtime.metrics import CONTENT_TYPE, Metrics
from worker.runtime.open_file_limit import take_file_descriptors
from worker.runtime.options_from_settings import (
    apps_of,
    engine_settings_of,
    http_options,
    kafka_options,
    misfits,
    worker_name,
)
from worker.runtime.readiness import Readiness
from worker.runtime.recent_outcomes import RecentOutcomes
from worker.runtime.self_monitor import SelfMonitor, TopicFault
from worker.runtime.status_page import StatusPage
from worker.runtime.status_server import StatusServer
from worker.runtime.topic_watch import TopicWatch
from worker.settings import secrets_of
from worker.tencent.client import Client

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.broker.options import KafkaOptions
    from worker.broker.topic_admin import Topic, WorkerTopics
    from worker.domain.contract.control_records import ControlRecord
    from worker.domain.contract.raw_records import Record
    from worker.domain.engine_settings import EngineSettings
    from worker.errors import WorkerError
    from worker.runtime import ports
    from worker.runtime.logging_setup import Log
    from worker.settings import Settings
    from worker.tencent.client_options import HttpOptions

PORT_ERRNOS: Final = frozenset({errno.EADDRINUSE, errno.EACCES, errno.EPERM})
"""Errors of listening that the port causes. The host causes all others: it has no address, or none of this machine."""
PUBLISHER_CLOSE_SECONDS: Final = 10.0
CONSUMER_CLOSE_SECONDS: Final = 10.0
FOLLOWER_CLOSE_SECONDS: Final = 2.0
QUOTA_CLOSE_SECONDS: Final = 2.0
"""How long each of these may take to close, beyond drain and handover."""
SWITCH_INTERVAL: Final = 0.001
"""
Seconds until a computing thread lets another run. With Python's default of 5 ms, the loop would wait that long for the
publisher at each answer.
"""
GC_THRESHOLDS: Final = (50_000, 20, 250)
"""
Open commands are many small long-lived objects, which the default would scan every few hundred commands. In a measured backlog
of 150,000 the youngest generation takes 0.07 s at most. The second takes 0.2 s, and finds next to nothing, for calls leave no
cycles behind: so it is seldom looked through.
"""


def run(settings: Settings) -> int:
    """
    Run the worker until a signal. Return the exit code: 0 after a clean stop, 1 after a failure.

    Raises SettingsError when the settings do not fit the cluster, BrokerError when Kafka cannot be reached at the start.
    """
    log = configure_logging(settings.log.level, settings.log.format, secrets_of(settings))
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as asyncio_runner:
            return asyncio_runner.run(_run(settings, log))
    except BrokerError as exc:
        log("worker.failed", reason=str(exc))
        raise


async def _run(settings: Settings, log: Log) -> int:
    stop = shutdown.ShutdownRequest(log, log.flush)
    name = worker_name(settings)
    options = kafka_options(settings, name, log.hide, log.redaction.learn_signature)
    log(
        "worker.started",
        version=__version__,
        name=name,
        group=options.group_id,
        apps=sorted(settings.tencent.apps),
    )
    http = http_options(settings)
    if (shortage := take_file_descriptors(len(settings.tencent.apps), http.max_connections)) is not None:
        log("files.limited", needed=shortage.needed, limit=shortage.limit, remedy=shortage.remedy)
    try:
        topics, topic = await shutdown.unless_stopped(stop, lambda: _fitting_topics(settings, options))
    except shutdown.StoppedEarlyError as early:
        log("worker.stopping", signal=str(early), drain_seconds=settings.drain_seconds)
        log("worker.stopped", exit_code=shutdown.CLEAN, left_open=0, seconds=0.0)
        return shutdown.CLEAN
    engine_settings = engine_settings_of(settings, topic, Worker(name, __version__))
    parts = _build(settings, options, http, topics, engine_settings, log)
    _keep_thread_for_stop()
    port = await listen(parts.server, settings)
    log("server.started", host=settings.server.host, port=port)
    if parts.follower is not None:
        parts.follower.start()
    parts.runner.spawn(parts.monitor.run())
    parts.runner.spawn(parts.watch.run())
    try:
        stop_cause = await _run_until_stopped(parts, stop)
        return await _stop_in_order(parts, settings, log, stop_cause)
    finally:
        if parts.follower is not None:
            await asyncio.to_thread(parts.follower.close, FOLLOWER_CLOSE_SECONDS)
        await asyncio.to_thread(parts.quota.close, QUOTA_CLOSE_SECONDS)
        await parts.runner.aclose()
        await parts.server.close()


def _keep_thread_for_stop() -> None:
    """Start now the thread in which the parts are closed: at the end the machine may have none left. Nothing else uses it."""
    executor = ThreadPoolExecutor(1, "stop")
    executor.submit(int)
    asyncio.get_running_loop().set_default_executor(executor)


@dataclass(frozen=True, slots=True)
class _Parts:
    """The parts that are started and ended; they hold all others."""

    runner: EngineRunner
    consumer: Consumer
    publisher: Publisher
    quota: ports.QuotaChannel
    follower: ControlFollower | None
    watch: TopicWatch
    monitor: SelfMonitor
    server: StatusServer


def _build(
    settings: Settings,
    options: KafkaOptions,
    http: HttpOptions,
    topics: WorkerTopics,
    engine_settings: EngineSettings,
    log: Log,
) -> _Parts:
    """Build all parts and join them. Starts nothing."""
    engine = Engine(
        engine_settings, time.monotonic(), time.time(), call_prefix=secrets.token_hex(4), began=BEGAN
    )
    client = Client(
        apps_of(settings),
        http,
        notice=log.event,
        redaction=log.redaction,
    )
    metrics = Metrics(
        settings.tencent.apps, window=engine_settings.window, memory_budget=engine_settings.memory_budget
    )
    failures = FailedCommandLog(log)
    recent = RecentOutcomes() if settings.server.page else None
    runner = EngineRunner(
        engine,
        metrics,
        log,
        handover_seconds=settings.kafka.handover_seconds,
        call_observers=(CallLog(log),),
        publish_observers=(failures,) if recent is None else (failures, recent),
    )
    refusals = ActiveKafkaRefusals(log.event)
    consumer = Consumer(options, runner, log.event, refusals)
    publisher = Publisher(options, consumer, log.event, refusals, runner.publisher_failed)
    restorer = PartitionRestorer(
        options,
        known_of,
        log.event,
        refusals,
        command_id_of=_command_id_reader(engine_settings),
        topic_id=engine_settings.topic_id,
    )
    write_order, follower = None, None
    if options.control_topic is not None:
        write_order = partial(_write_order, options)
        follower = ControlFollower(options, runner, log.event, refusals)
    quota = QuotaChannel(options, runner.quota_messages, log.event)
    runner.connect(consumer, publisher, restorer, client, quota, write_order)
    dedupe_window = settings.dedupe.window_seconds
    watch = TopicWatch(
        lambda: topic_admin.changes(
            topics, topic_admin.inspect(options), options, dedupe_window=dedupe_window
        ),
        options.metadata_max_age,
        log,
        runner.refuse_work,
        follower,
    )
    readiness = Readiness(runner, watch, refusals, follower)
    page = (
        None if recent is None else StatusPage(engine_settings.worker, recent, obstacles=readiness.obstacles)
    )
    monitor = SelfMonitor(
        runner,
        consumer,
        client,
        refusals,
        readiness,
        metrics,
        log,
        failures,
        page,
        topic_fault=lambda: _topic_fault(engine_settings, consumer),
        follower=follower,
    )
    server = StatusServer(
        settings.server.host,
        settings.server.port,
        pulse_age=lambda: time.monotonic() - runner.last_tick_at,
        obstacles=readiness.obstacles,
        metrics=lambda: (metrics.text(), CONTENT_TYPE),
        notes=lambda: monitor.notes,
        page=page,
    )
    return _Parts(runner, consumer, publisher, quota, follower, watch, monitor, server)


async def listen(server: StatusServer, settings: Settings) -> int:
    """Start the server and return its port. Raises SettingsError when it cannot listen."""
    try:
        return await server.start()
    except OSError as exc:
        reason = exc.strerror or str(exc)
        if exc.errno in PORT_ERRNOS:
            problem = SettingProblem(
                "server.port", f"give another, or end what uses it: {reason}", settings.server.port
            )
        else:
            remedy = f"give an address of this machine (0.0.0.0 is all of IPv4, :: all of IPv6): {reason}"
            problem = SettingProblem("server.host", remedy, settings.server.host)
        raise SettingsError([problem]) from exc


async def _run_until_stopped(parts: _Parts, stop: shutdown.ShutdownRequest) -> str | WorkerError:
    """
    Start publisher, consumer and lending, and wait for a signal or an error; return the signal's name or the error.

    Raises BrokerError when Kafka cannot be reached at the start.
    """
    try:
        await shutdown.unless_stopped(stop, parts.publisher.start)
    except shutdown.StoppedEarlyError as early:
        return str(early)
    gc.freeze()  # what is loaded by now lives to the end, so no collection needs to scan it
    parts.consumer.start()
    parts.quota.start()
    return await shutdown.until_stopped(parts.runner, stop)


async def _stop_in_order(parts: _Parts, settings: Settings, log: Log, stop_cause: str | WorkerError) -> int:
    """
    Drain if a signal is the cause; then close the consumer, and last the publisher. Return the exit code.

    ``stop_cause`` is the signal's name, or the error that ends the worker.
    """
    began = time.monotonic()
    runner = parts.runner
    code = shutdown.FAILED
    left_before = runner.left_open
    if isinstance(stop_cause, str):
        code = shutdown.CLEAN
        log("worker.stopping", signal=stop_cause, drain_seconds=settings.drain_seconds)
        await shutdown.drain(runner, settings.drain_seconds)
        if runner.waits_in_vain and not runner.idle and not runner.fatal_error.done():
            log("drain.cut_short", left_open=runner.open_count)
    else:
        log("worker.failed", reason=str(stop_cause), exc_info=stop_cause)
    await asyncio.to_thread(parts.consumer.close, settings.kafka.handover_seconds + CONSUMER_CLOSE_SECONDS)
    await asyncio.to_thread(parts.publisher.close, PUBLISHER_CLOSE_SECONDS)
    if runner.fatal_error.done():
        code = shutdown.FAILED
        if isinstance(stop_cause, str):  # it came during the drain
            error = runner.fatal_error.result()
            log("worker.failed", reason=str(error), exc_info=error)
    left = runner.left_open - left_before + runner.open_count
    log("worker.stopped", exit_code=code, left_open=left, seconds=round(time.monotonic() - began, 3))
    return code


def _write_order(options: KafkaOptions, record: ControlRecord) -> None:
    """Write the order of a guard; blocks. Raises BrokerError."""
    assert record.order is not None
    write_record(options, record, record.order.by, record.order.reason)


def _topic_fault(engine_settings: EngineSettings, consumer: Consumer) -> TopicFault | None:
    """Return what is wrong with the command topic; None if it is as it was at the start."""
    topic_id = consumer.topic_id()
    if topic_admin.is_another_topic(engine_settings.topic_id, topic_id):
        reason = topic_admin.recreated_message(engine_settings.topic, engine_settings.topic_id, topic_id)
        return TopicFault(reason, can_publish=False)
    count = consumer.partition_count()
    if count is not None and count != engine_settings.partitions:
        reason = (
            f"the command topic has {count} partitions now, and had {engine_settings.partitions} at the start: stop all replicas, "
            "then start them again"
        )
        return TopicFault(reason, can_publish=True)
    return None


def _command_id_reader(engine_settings: EngineSettings) -> Callable[[Record], str | None]:
    """Return a function that reads the command_id of a record, and returns None if the record has no readable one."""
    decoder = CommandDecoder(engine_settings)
    return lambda record: decoder.decode(record).command_id


def _fitting_topics(settings: Settings, options: KafkaOptions) -> tuple[WorkerTopics, Topic]:
    """Return a report on all topics, and the command topic. Raises SettingsError when topics or limits do not fit."""
    report = topic_admin.inspect(options)
    found = misfits(settings, options, report)
    if found or report.command is None:
        raise SettingsError(found)
    return report, report.command
