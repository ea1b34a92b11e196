# The environment of a run: Kafka, the simulator and the worker's replicas, each its own process, in a temporary folder.
#
# It starts and ends the processes and knows their addresses. What happens in it is up to main.py or a test.

from __future__ import annotations

import contextlib
import secrets
import shutil
import sys
import tempfile
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
from kafka.errors import KafkaError

from worker.testing.checker.contract import ADMINISTRATOR
from worker.testing.kafka.child_process import ChildProcess
from worker.testing.kafka.embedded_kafka import EmbeddedKafka, admin_client, free_ports

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager
    from types import TracebackType
    from typing import Self

    from kafka import KafkaAdminClient

    from worker.testing.kafka.jars import Progress

PARTITIONS: Final = 6
SDK_APP_ID: Final = 1_400_000_000
APP: Final = "main"
START_DEADLINE: Final = 30.0
WORKER_DEADLINE: Final = 60.0
"""In seconds: a replica must join the group and wait until a predecessor's requests have taken effect."""
SETTLING: Final = 8.0
"""How long after a replica is ready more partitions may still move to it, in seconds: the other replicas have 5
(handover_seconds) to hand them over, and what they cannot finish by then is repeated."""
DRAIN_SECONDS: Final = 10.0
CLOSING: Final = 10.0
"""How long a replica may take after its drain to publish and close, in seconds."""
BOOTSTRAP_MS: Final = 10_000
ANSWER_TIMEOUT: Final = 5.0
KEY_BYTES: Final = 32
WORKER: Final = (sys.executable, "-m", "worker")
ask_directly: Final = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
"""As urlopen, but past the proxy that http_proxy names: it does not reach 127.0.0.1, or means its own."""


class DemoTopics(msgspec.Struct, frozen=True):
    """The names of the topics of one demo."""

    commands: str
    outcomes: str
    dead_letters: str
    control: str
    quota: str

    @classmethod
    def fresh(cls) -> Self:
        """Return names that no other demo on the same cluster uses."""
        stem = f"demo-{uuid.uuid4().hex[:8]}"
        return cls(
            f"{stem}.commands", f"{stem}.outcomes", f"{stem}.dead-letters", f"{stem}.control", f"{stem}.quota"
        )

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return self.commands, self.outcomes, self.dead_letters, self.control, self.quota


class DemoEnvironment:
    """
    Everything that a demo runs on. As a context manager it ends everything that was started, workers first.

    Attributes:
        folder: Settings, key and logs of this demo.
        replicas: The workers, in the order of their numbers.

    """

    def __init__(self, bootstrap_servers: str | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="moderation-worker-demo-"))
        self.topics = DemoTopics.fresh()
        self.replicas: list[ChildProcess] = []
        self.bootstrap_servers = bootstrap_servers or ""
        self.api = ""
        self._kafka: EmbeddedKafka | None = None
        self._simulator: ChildProcess | None = None
        self._ports: list[int] = []
        self._created = False

    def __repr__(self) -> str:
        return f"<DemoEnvironment {self.bootstrap_servers or 'no Kafka'}, {len(self.replicas)} replicas>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def simulator_log(self) -> Path:
        """The log file of the simulator, with one line for each request."""
        return self.folder / "calls.jsonl"

    @property
    def key_file(self) -> Path:
        """The secret key that the worker signs with and the simulator verifies."""
        return self.folder / "secret-key"

    def start_kafka(self, progress: Progress | None = None) -> None:
        """Start an embedded Kafka, unless another cluster was given, and create the topics."""
        if not self.bootstrap_servers:
            self._kafka = EmbeddedKafka(progress=progress)
            self._kafka.start()
            self.bootstrap_servers = self._kafka.bootstrap_servers
        spec = {"num_partitions": PARTITIONS, "replication_factor": -1}
        with self._admin() as admin:
            specs: dict[str, Any] = dict.fromkeys(self.topics.names, spec)
            specs[self.topics.control] = {
                "num_partitions": 1,
                "replication_factor": -1,
                "configs": {"cleanup.policy": "compact"},
            }
            specs[self.topics.quota] = {"num_partitions": 1, "replication_factor": -1}
            admin.create_topics(specs, wait_for_metadata=True)
        self._created = True

    def start_simulator(self, *options: str, seed: int = 0) -> None:
        """Start the local Tencent API with these flags for its faults; ``api`` is its address afterwards."""
        self.key_file.touch(mode=0o600)
        self.key_file.write_text(secrets.token_hex(KEY_BYTES), "utf-8")
        command = [
            *WORKER, "simulate", "--sdk-app-id", str(SDK_APP_ID), "--identifier", ADMINISTRATOR, "--seed", str(seed),
            "--key-file", str(self.key_file), "--log", str(self.simulator_log), *options,
        ]  # fmt: skip
        self._simulator = ChildProcess("the simulator", command, self.folder / "simulator.log")
        self._simulator.start()
        self._simulator.wait_until(self._simulator_listens, START_DEADLINE, "listening")

    def start_worker(
        self, settings: Mapping[str, Any] | None = None, program: Sequence[str] = WORKER
    ) -> ChildProcess:
        """Start one more replica. ``settings`` override its default settings, section by section."""
        (port,) = free_ports(1)
        number = len(self.replicas) + 1
        config = self.folder / f"worker-{number}.yaml"
        sections = self._worker_settings(port)
        for section, values in (settings or {}).items():
            sections[section] = (
                {**sections.get(section, {}), **values} if isinstance(values, dict) else values
            )
        config.write_bytes(msgspec.json.format(msgspec.json.encode(sections)))
        command = [*program, "run", "--config", str(config)]
        replica = ChildProcess(f"worker {number}", command, self.folder / f"worker-{number}.log")
        replica.start()
        self._ports.append(port)
        self.replicas.append(replica)
        return replica

    def wait_until_ready(self, replica: ChildProcess) -> None:
        """Wait until a replica is ready."""
        replica.wait_until(lambda: self.is_ready(replica), WORKER_DEADLINE, "ready")

    def is_ready(self, replica: ChildProcess) -> bool:
        """Return whether a replica has its partitions and works on them."""
        return answers_ok(f"{self.worker_addresses()[self.replicas.index(replica)]}/readyz")

    def worker_addresses(self) -> list[str]:
        """Return the addresses of the replicas' /livez, /readyz and /metrics."""
        return [f"http://127.0.0.1:{port}" for port in self._ports]

    def control(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Call the simulator's control, with GET or, given a body, PATCH. Return its answer."""
        request = urllib.request.Request(  # noqa: S310 - an http address of our own simulator
            f"{self.api}/__control/{path}",
            method="GET" if body is None else "PATCH",
            data=None if body is None else msgspec.json.encode(body),
        )
        with ask_directly(request, timeout=ANSWER_TIMEOUT) as answer:
            return msgspec.json.decode(answer.read())

    def stop_workers(self) -> list[tuple[str, int]]:
        """Send SIGTERM to all replicas at once and return their exit codes when all have ended."""
        for replica in self.replicas:
            replica.terminate()
        return [(replica.name, replica.wait(DRAIN_SECONDS + CLOSING)) for replica in self.replicas]

    def stop_simulator(self) -> None:
        """End the simulator, which completes its log."""
        if self._simulator is not None:
            self._simulator.stop()

    def close(self) -> None:
        """
        End everything that was started here and remove its traces. It may be called twice.

        An interrupt meanwhile cuts short the end of what it hits; the rest is ended and removed all the same.
        """
        with contextlib.ExitStack() as last_to_first:
            last_to_first.callback(shutil.rmtree, self.folder, ignore_errors=True)
            last_to_first.callback(self._end_kafka)
            last_to_first.callback(self.stop_simulator)
            last_to_first.callback(self.stop_workers)

    def _end_kafka(self) -> None:
        if self._kafka is not None:
            self._kafka.stop()
        elif self._created:
            with contextlib.suppress(KafkaError), self._admin() as admin:
                admin.delete_topics(list(self.topics.names))
        self._created = False

    def _admin(self) -> AbstractContextManager[KafkaAdminClient]:
        return admin_client(self.bootstrap_servers, bootstrap_timeout_ms=BOOTSTRAP_MS)

    def _simulator_listens(self) -> bool:
        text = (self.folder / "simulator.log").read_text("utf-8", "replace")
        for line in text.splitlines():
            if line.startswith("listening on "):
                self.api = line.removeprefix("listening on ").strip()
                return answers_ok(f"{self.api}/__control/healthz")
        return False

    def _worker_settings(self, port: int) -> dict[str, Any]:
        topics = self.topics
        return {
            "kafka": {
                "bootstrap_servers": self.bootstrap_servers,
                "group_id": topics.commands.removesuffix(".commands"),
                "command_topics": [topics.commands],
                "outcome_topic": topics.outcomes,
                "dead_letter_topic": topics.dead_letters,
                "control_topic": topics.control,
                "quota_topic": topics.quota,
                "consumer": {"session_timeout_ms": 6000, "heartbeat_interval_ms": 1000},
            },
            "tencent": {
                "apps": {
                    APP: {
                        "sdk_app_id": SDK_APP_ID,
                        "identifier": ADMINISTRATOR,
                        "secret_key_file": str(self.key_file),
                        "base_url": self.api,
                    }
                },
                "default_app": APP,
            },
            "server": {"host": "127.0.0.1", "port": port},
            "drain_seconds": DRAIN_SECONDS,
        }


def answers_ok(url: str) -> bool:
    """Return whether an address of this machine answers with 200."""
    try:
        with ask_directly(url, timeout=ANSWER_TIMEOUT) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError as refusal:
        refusal.close()  # it holds the answer, and its connection
        return False
    except OSError:
        return False
