# The embedded broker: fetched and verified, started, and available again after a kill or a pause.

from __future__ import annotations

import gc
import hashlib
import os
import socket
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import pytest
from kafka import KafkaAdminClient

from tests.conftest import CLUSTER_VARIABLE
from worker.testing.kafka.embedded_kafka import answers
from worker.testing.kafka.jars import FetchError, Jar, fetch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Cluster
    from worker.testing.kafka.embedded_kafka import EmbeddedKafka


@pytest.fixture
def broken() -> dict[str, int]:
    """Return how often the repository breaks off in the middle of a jar, by the jar's artifact."""
    return {}


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: dict[str, int]) -> Iterator[Path]:
    """Return the folder that a Maven repository of our own serves."""
    root = tmp_path / "repository"
    root.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(root))  # type: ignore[arg-type]

        def do_GET(self) -> None:
            artifact = self.path.split("/")[-3]
            if not broken.get(artifact):
                super().do_GET()
                return
            broken[artifact] -= 1
            content = (root / self.path.lstrip("/")).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])

        def log_message(self, *_args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("MODERATION_WORKER_MAVEN_REPOSITORY", f"http://127.0.0.1:{server.server_port}")
        yield root
        server.shutdown()
    gc.collect()


LEAVES_CONNECTIONS = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
"""jgo leaves the connection of a jar that it could not fetch open until a garbage collection: the fixture's at the latest."""


def test_what_is_missing_or_damaged_is_fetched_and_the_rest_is_left_alone(
    tmp_path: Path, repository: Path
) -> None:
    whole, damaged, missing = (
        _published(repository, name, name.encode() * 1000) for name in ("whole", "damaged", "missing")
    )
    cache = tmp_path / "cache" / "kafka-jars"
    cache.mkdir(parents=True)
    (cache / whole.filename).write_bytes(b"whole" * 1000)
    (cache / damaged.filename).write_bytes(b"dam")
    seen: list[tuple[int, int]] = []

    paths = fetch(
        (whole, damaged, missing), tmp_path / "cache", lambda done, total: seen.append((done, total))
    )

    assert [path.read_bytes()[:5] for path in paths] == [b"whole", b"damag", b"missi"]
    assert seen[-1] == (damaged.size + missing.size,) * 2


@LEAVES_CONNECTIONS
def test_a_jar_whose_connection_breaks_is_tried_again(
    tmp_path: Path, repository: Path, broken: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what had come of it counts once."""
    monkeypatch.setattr("worker.testing.kafka.jars.LONGEST_WAIT", 0.01)
    jar = _published(repository, "thing", b"x" * 50_000)
    broken["thing"] = 2
    seen: list[tuple[int, int]] = []

    (path,) = fetch((jar,), tmp_path / "cache", lambda done, total: seen.append((done, total)))

    assert jar.is_at(path)
    assert seen[-1] == (jar.size, jar.size)
    assert max(done for done, _ in seen) == jar.size


@LEAVES_CONNECTIONS
def test_what_has_arrived_is_kept_when_another_jar_cannot_be_had(
    tmp_path: Path, repository: Path, broken: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.testing.kafka.jars.LONGEST_WAIT", 0.01)
    lost, had = (_published(repository, name, name.encode() * 10_000) for name in ("lost", "had"))
    broken["lost"] = 3

    with pytest.raises(FetchError, match=r"lost-1\.0\.jar could not be fetched"):
        fetch((lost, had), tmp_path / "cache")

    assert had.is_at(tmp_path / "cache" / "kafka-jars" / had.filename)
    assert broken["lost"] == 0


def test_a_jar_that_is_not_the_locked_one_is_refused_and_not_kept(tmp_path: Path, repository: Path) -> None:
    real = _published(repository, "thing", b"altered on the way")
    locked = Jar(real.group, real.artifact, real.version, real.size, "0" * 64)

    with pytest.raises(FetchError, match="not what the lock file names"):
        fetch((locked,), tmp_path / "cache")

    assert [path.name for path in (tmp_path / "cache" / "kafka-jars").iterdir()] == [".lock"]


@LEAVES_CONNECTIONS
@pytest.mark.usefixtures("repository")
def test_a_jar_that_the_repository_does_not_have_is_named(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"thing-1\.0\.jar could not be fetched"):
        fetch((Jar("a.group", "thing", "1.0", 1, "0" * 64),), tmp_path / "cache")


@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize(("ci", "code", "summary"), [("true", 1, "1 error"), ("", 0, "1 skipped")])
def test_where_kafka_cannot_be_had_a_test_that_needs_it_fails_in_ci(
    tmp_path: Path, ci: str, code: int, summary: str
) -> None:
    """A run that skips everything must not be green."""
    words = [
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", "topics_can_be_made",
        # jgo leaves the connection of a missing jar open until a garbage collection.
        "-W", "ignore::pytest.PytestUnraisableExceptionWarning",
    ]  # fmt: skip
    here = {name: value for name, value in os.environ.items() if name != CLUSTER_VARIABLE}
    nothing = {"MODERATION_WORKER_CACHE": str(tmp_path / "cache"), "CI": ci}

    done = subprocess.run(
        words, cwd=Path(__file__).parents[2], env=here | nothing, capture_output=True, text=True, check=False
    )

    assert done.returncode == code, done.stdout + done.stderr
    assert summary in done.stdout
    assert "Kafka cannot be had" in done.stdout


@pytest.mark.kafka
def test_topics_can_be_made_on_the_shared_broker(kafka: Cluster, make_topic: Callable[..., str]) -> None:
    name = make_topic("x", partitions=3, configs={"retention.ms": "1000"})

    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    described = admin.describe_topics([name])
    admin.close()

    assert len(described[0]["partitions"]) == 3


@pytest.mark.kafka
def test_a_killed_broker_comes_back_at_its_address_with_its_topics(own_kafka: EmbeddedKafka) -> None:
    admin = KafkaAdminClient(bootstrap_servers=own_kafka.bootstrap_servers)
    admin.create_topics({"kept": {"num_partitions": 1, "replication_factor": 1}})
    admin.close()

    own_kafka.kill()
    assert not own_kafka.running
    own_kafka.start()

    admin = KafkaAdminClient(bootstrap_servers=own_kafka.bootstrap_servers)
    topics = admin.list_topics()
    admin.close()
    assert "kept" in topics


@pytest.mark.kafka
def test_a_paused_broker_does_not_answer_until_it_is_resumed(own_kafka: EmbeddedKafka) -> None:
    own_kafka.pause()
    assert not answers(own_kafka.bootstrap_servers)

    own_kafka.resume()
    assert answers(own_kafka.bootstrap_servers)


def test_a_broker_that_is_asked_in_vain_is_asked_by_nobody_afterwards(
    collected_sockets: None,  # noqa: ARG001 - kafka-python leaves the one that got no answer
) -> None:
    """A client that a failed constructor leaves behind may go on asking, and its failures would be blamed on other tests."""
    before = set(threading.enumerate())
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert not answers(f"127.0.0.1:{silent.getsockname()[1]}")

    assert set(threading.enumerate()) == before


@pytest.mark.kafka
def test_a_stopped_broker_leaves_nothing_behind(own_kafka: EmbeddedKafka) -> None:
    own_kafka.stop()

    assert not own_kafka.running
    assert not own_kafka.folder.exists()


def _published(repository: Path, artifact: str, content: bytes) -> Jar:
    jar = Jar("a.group", artifact, "1.0", len(content), hashlib.sha256(content).hexdigest())
    folder = repository / "a" / "group" / artifact / "1.0"
    folder.mkdir(parents=True)
    (folder / jar.filename).write_bytes(content)
    return jar
