# Three brokers of one cluster, each its own process, with replicated topics of which two copies must be written. No test is here.

from __future__ import annotations

import shutil
import subprocess
import tempfile
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Final, Self

from worker.testing.kafka.child_process import ChildProcess
from worker.testing.kafka.embedded_kafka import (
    JVM,
    PROPERTIES,
    START_DEADLINE,
    STOP_DEADLINE,
    answers,
    find_java,
    free_ports,
)
from worker.testing.kafka.jars import cache_folder, fetch, locked_jars

COUNT: Final = 3
REPLICATED: Final = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "controller.quorum.election.timeout.ms": "500",
    "controller.quorum.fetch.timeout.ms": "1000",
}


class Brokers:
    """A context manager. ``kill`` and ``start`` take the number of a broker, from 0."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="moderation-worker-brokers-"))
        self._processes: list[ChildProcess] = []
        self._addresses: list[str] = []

    def __enter__(self) -> Self:
        try:
            self._make()
            for number in range(COUNT):
                self._processes[number].start()
            for number in range(COUNT):
                self._wait(number)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.stop(STOP_DEADLINE)
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(self._addresses)

    def kill(self, number: int) -> None:
        """Ends a broker as a crash would."""
        self._processes[number].kill()

    def start(self, number: int) -> None:
        """Starts it again with its data, and returns when it answers."""
        self._processes[number].start()
        self._wait(number)

    def _wait(self, number: int) -> None:
        self._processes[number].wait_until(lambda: answers(self._addresses[number]), START_DEADLINE, "ready")

    def _make(self) -> None:
        class_path = ":".join(str(path) for path in fetch(locked_jars(), cache_folder()))
        command = [find_java(), *JVM, "-cp", class_path]
        ports = free_ports(2 * COUNT)
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        voters = ",".join(f"{number + 1}@127.0.0.1:{ports[COUNT + number]}" for number in range(COUNT))
        formatting: list[subprocess.Popen[bytes]] = []
        for number in range(COUNT):
            lines = dict(line.split("=", 1) for line in PROPERTIES.splitlines()) | REPLICATED
            del lines["controller.quorum.bootstrap.servers"]
            lines |= {"node.id": str(number + 1), "controller.quorum.voters": voters}
            file = self._folder / f"{number}.properties"
            text = "".join(f"{name}={value}\n" for name, value in lines.items())
            data = self._folder / f"data-{number}"
            file.write_text(
                text.format(broker=ports[number], controller=ports[COUNT + number], data=data), "utf-8"
            )
            formatting.append(
                subprocess.Popen(
                    [
                        *command,
                        "kafka.tools.StorageTool",
                        "format",
                        f"--cluster-id={cluster}",
                        "-c",
                        str(file),
                    ],
                    stdout=subprocess.DEVNULL,
                )
            )
            log = self._folder / f"{number}.log"
            self._processes.append(
                ChildProcess(f"broker {number + 1}", [*command, "kafka.Kafka", str(file)], log)
            )
            self._addresses.append(f"127.0.0.1:{ports[number]}")
        assert [each.wait(START_DEADLINE) for each in formatting] == [0] * COUNT
