# Wiring: the one place that knows everybody. Options become parts, parts are joined and run.
#
# It builds and starts and ends; it decides nothing about commands. Not here: what of the settings each part takes (options.py).

from __future__ import annotations

import asyncio
import errno
import gc
import secrets
import sys
import time
from typing import TYPE_CHECKING, Final

import uvloop

from worker import __version__
from worker.broker.consumer import Consumer
from worker.broker.publisher import Publisher
from worker.broker.restore import Restorer
from worker.broker.topics import changes, inspect, is_another, recreated
from worker.broker.troubles import Troubles
from worker.domain.contract.commands import Decoder
from worker.domain.contract.outcomes import Worker
from worker.domain.engine import Engine
from worker.domain.progress.dedupe import known_of
from worker.errors import BrokerError, Problem, SettingsError
from worker.runtime import lifecycle
from worker.runtime.file_limit import take_file_descriptors
from worker.runtime.logging_setup import configure_logging
from worker.runtime.metrics import CONTENT_TYPE, Metrics, Vitals
from worker.runtime.options import apps_of, http_options, kafka_options, misfits, rules_of, worker_name
from worker.runtime.service import Service
from worker.runtime.status_server import Obstacle, StatusServer
from worker.runtime.topic_watch import TopicWatch
from worker.settings import secrets_of
from worker.tencent.client import Client

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.broker.options import KafkaOptions
    from worker.broker.topics import Topic, TopicsReport
    from worker.domain.contract.records import Record
    from worker.domain.effects import LogEvent
    from worker.domain.rules import Rules
    from worker.errors import WorkerError
    from worker.runtime.logging_setup import Log
    from worker.settings import Settings

KEY_CHANGED: Final = "signature.key_changed"
OBSERVE_SECONDS: Final = 1.0
"""How often gauges are set."""
STALL_SECONDS: Final = 1.0
"""A loop that did not run for so long is told of."""
OF_THE_PORT: Final = frozenset({errno.EADDRINUSE, errno.EACCES, errno.EPERM})
"""Why a port cannot be listened on. All other reasons are the host's: it has no address, or not one of this machine."""
PUBLISHER_CLOSE_SECONDS: Final = 10.0
CONSUMER_CLOSE_SECONDS: Final = 10.0
"""What the end of each may take, beyond the drain."""
SWITCH_INTERVAL: Final = 0.001
"""
Seconds until a thread that computes lets another run. At Python's 5 ms, the loop would wait that long for the publisher
at each answer.
"""
GC_THRESHOLDS: Final = (50_000, 4, 250)
"""
Open commands are many small long-lived objects: the default would look through them every few hundred commands. The second
generation is looked through early, while it is small: measured in a backlog of 60,000, that stops the loop for under 0.1 s.
"""


def run(settings: Settings) -> int:
    """
    Runs the worker until a signal. Returns the exit code: 0 after a clean stop, 1 failed.

    Raises SettingsError when the settings do not fit the cluster, BrokerError when Kafka cannot be reached at the start.
    """
    log = configure_logging(settings.log.level, settings.log.format, secrets_of(settings))
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_run(settings, log))
    except BrokerError as exc:
        log("worker.failed", reason=str(exc))
        raise


async def _run(settings: Settings, log: Log) -> int:
    stop = lifecycle.Stop(log, log.flush)
    name = worker_name(settings)
    options = kafka_options(settings, name, log.hide)
    log(
        "worker.started",
        version=__version__,
        name=name,
        group=options.group_id,
        apps=sorted(settings.tencent.apps),
    )
    http = http_options(settings)
    if (short := take_file_descriptors(len(settings.tencent.apps), http.max_connections)) is not None:
        log("files.limited", needed=short.needed, limit=short.limit, remedy=short.remedy)
    try:
        topics, topic = await lifecycle.unless_stopped(stop, lambda: _fitting_topics(settings, options))
    except lifecycle.StoppedEarlyError as early:
        log("worker.stopping", signal=str(early), drain_seconds=settings.drain_seconds)
        log("worker.stopped", exit_code=lifecycle.CLEAN, left_open=0, seconds=0.0)
        return lifecycle.CLEAN
    rules = rules_of(settings, topic, Worker(name, __version__))
    engine = Engine(rules, time.monotonic(), time.time(), call_prefix=secrets.token_hex(4))
    client = Client(
        apps_of(settings),
        http,
        on_event=_hiding_new_keys(settings, log),
        redaction=log.redaction,
    )
    metrics = Metrics(settings.tencent.apps, window=rules.window, memory_budget=rules.memory_budget)
    service = Service(engine, metrics, log, handover=settings.kafka.handover_seconds)
    troubles = Troubles(log.notice)
    consumer = Consumer(options, service, log.notice, troubles)
    publisher = Publisher(options, consumer, log.notice, troubles)
    restorer = Restorer(
        options,
        known_of,
        log.notice,
        troubles,
        command_id_of=_reader_of_ids(rules),
        topic_id=topic.topic_id,
    )
    service.connect(consumer, publisher, restorer, client)
    window = settings.dedupe.window_seconds
    watch = TopicWatch(
        lambda: changes(topics, inspect(options), options, dedupe_window=window),
        options.metadata_max_age,
        log,
        service.refuse,
    )
    server = StatusServer(
        settings.server.host,
        settings.server.port,
        pulse_age=lambda: time.monotonic() - service.pulse,
        obstacles=lambda: _obstacles(service, watch, troubles),
        metrics=lambda: (metrics.text(), CONTENT_TYPE),
    )
    port = await listening(server, settings)
    log("server.started", host=settings.server.host, port=port)
    observing = asyncio.create_task(_observe(service, consumer, client, metrics, rules, log, watch, troubles))
    watching = asyncio.create_task(watch.run())
    try:
        why = await _work(service, consumer, publisher, stop)
        return await _end(service, consumer, publisher, settings, log, why)
    finally:
        observing.cancel()
        watching.cancel()
        await service.aclose()
        await server.close()


async def listening(server: StatusServer, settings: Settings) -> int:
    """The port on which the server listens now. Raises SettingsError when it cannot."""
    try:
        return await server.start()
    except OSError as exc:
        reason = exc.strerror or str(exc)
        if exc.errno in OF_THE_PORT:
            problem = Problem(
                "server.port", f"give another, or end what uses it: {reason}", settings.server.port
            )
        else:
            remedy = f"give an address of this machine (0.0.0.0 and :: are all of them): {reason}"
            problem = Problem("server.host", remedy, settings.server.host)
        raise SettingsError([problem]) from exc


async def _work(
    service: Service, consumer: Consumer, publisher: Publisher, stop: lifecycle.Stop
) -> str | WorkerError:
    """Until a signal, whose name is returned, or an error. Raises BrokerError when Kafka cannot be reached at the start."""
    try:
        await lifecycle.unless_stopped(stop, publisher.start)
    except lifecycle.StoppedEarlyError as early:
        return str(early)
    gc.freeze()
    consumer.start()
    return await lifecycle.until_stopped(service, stop)


async def _end(
    service: Service, consumer: Consumer, publisher: Publisher, settings: Settings, log: Log, why: object
) -> int:
    began = time.monotonic()
    code = lifecycle.FAILED
    left = service.open
    if isinstance(why, str):
        code = lifecycle.CLEAN
        log("worker.stopping", signal=why, drain_seconds=settings.drain_seconds)
        left = await lifecycle.drain(service, settings.drain_seconds)
    else:
        log("worker.failed", reason=str(why), exc_info=why)
    await asyncio.to_thread(consumer.close, settings.kafka.handover_seconds + CONSUMER_CLOSE_SECONDS)
    await asyncio.to_thread(publisher.close, PUBLISHER_CLOSE_SECONDS)
    if service.stopped.done():
        code = lifecycle.FAILED
    log("worker.stopped", exit_code=code, left_open=left, seconds=round(time.monotonic() - began, 3))
    return code


async def _observe(
    service: Service,
    consumer: Consumer,
    client: Client,
    metrics: Metrics,
    rules: Rules,
    log: Log,
    watch: TopicWatch,
    troubles: Troubles,
) -> None:
    """Once a second: the gauges, the loop's stalls, and whether the topic is the same and still has its partitions."""
    while True:
        before = time.monotonic()
        await asyncio.sleep(OBSERVE_SECONDS)
        stalled = time.monotonic() - before - OBSERVE_SECONDS
        if stalled > STALL_SECONDS:
            log("loop.stalled", seconds=round(stalled, 3))
        snapshot = service.snapshot()
        lags = {
            each.partition: lag + each.gap
            for each in snapshot.partitions
            if (lag := consumer.lag(each.partition)) is not None
        }
        signatures = {app: (signer.age(), signer.expires_in()) for app, signer in client.signers.items()}
        ready = not _obstacles(service, watch, troubles)
        refused = frozenset(refusal.kind for refusal in troubles.lasting)
        pulse_age = time.monotonic() - service.pulse
        vitals = Vitals(pulse_age, ready, lags, signatures, log.dropped, len(service.doubts), refused)
        metrics.observe(snapshot, vitals)
        topic_id = consumer.topic_id()
        if is_another(rules.topic_id, topic_id):
            service.refuse(recreated(rules.topic, rules.topic_id, topic_id))
        count = consumer.partition_count()
        if count is not None and count != rules.partitions:
            service.refuse(
                f"the command topic has {count} partitions now, and had {rules.partitions} at the start: stop all replicas, "
                "then start them again"
            )


def _hiding_new_keys(settings: Settings, log: Log) -> Callable[[LogEvent], None]:
    """Tells what the client notices. A key that its file holds now, and did not at the start, is hidden from then on too."""

    def tell(notice: LogEvent) -> None:
        if notice.event == KEY_CHANGED:
            for secret in secrets_of(settings):
                log.hide(secret)
        log.notice(notice)

    return tell


def _obstacles(service: Service, watch: TopicWatch, troubles: Troubles) -> list[Obstacle]:
    refusal, halts = service.tells
    found = [Obstacle(each.reason, each.remedy) for each in troubles.lasting]
    if refusal is not None:
        found.append(Obstacle(refusal))
    found += [Obstacle(str(doubt), doubt.remedy) for doubt in service.doubts]
    found += [Obstacle(f"topic {each.value} does not fit any more", each.remedy) for each in watch.obstacles]
    for halt in halts:
        where = (
            f"{halt.app} is halted" if halt.endpoint is None else f"{halt.endpoint} of {halt.app} is halted"
        )
        found.append(Obstacle(f"{where}: {halt.reason}", halt.remedy))
    return found


def _reader_of_ids(rules: Rules) -> Callable[[Record], str | None]:
    decoder = Decoder(rules)
    return lambda record: decoder.decode(record).command_id


def _fitting_topics(settings: Settings, options: KafkaOptions) -> tuple[TopicsReport, Topic]:
    """The topics, and of them that of the commands. Raises SettingsError when topics or limits do not fit."""
    report = inspect(options)
    found = misfits(settings, options, report)
    if found or report.command is None:
        raise SettingsError(found)
    return report, report.command
