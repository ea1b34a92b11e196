# The embedded broker's settings, as Java reads them, and what it takes for its own. That it runs: tests/process/test_embedded_kafka.py.

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from worker.testing.kafka import embedded_kafka
from worker.testing.kafka.child_process import ChildProcess, ProcessFailedError
from worker.testing.kafka.embedded_kafka import EmbeddedKafka, _escaped

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("/a b=c:d#e!", "/a b=c:d#e!"),
        ("a\\b", r"a\u005cb"),
        ("é群", r"\u00e9\u7fa4"),
        ("😀", r"\ud83d\ude00"),
        ("a\nb\tc", r"a\u000ab\u0009c"),
    ],
    ids=ascii,
)
def test_a_value_reaches_java_as_it_is(text: str, written: str) -> None:
    """A properties file is Latin-1 for Java, and a backslash in it escapes: Kafka kept its data in a folder of another name."""
    assert _escaped(text) == written


@pytest.fixture
def without_java(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_kafka, "find_java", lambda: "/no/java")
    monkeypatch.setattr(embedded_kafka, "fetch", lambda *_: ())


@pytest.mark.usefixtures("without_java")
def test_who_listens_at_the_port_already_is_not_taken_for_the_broker(tmp_path: Path) -> None:
    """It counted as ready when the port answered: topics and commands went to somebody else's Kafka."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ProcessFailedError, match=f"port {port} of 127.0.0.1 is taken: end what listens"):
            EmbeddedKafka(folder=tmp_path, port=port).start()

    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("without_java")
def test_two_brokers_never_share_a_folder(tmp_path: Path) -> None:
    first, second = EmbeddedKafka(folder=tmp_path), EmbeddedKafka(folder=tmp_path)
    first._lock_folder()

    with pytest.raises(ProcessFailedError, match=r"another Kafka runs in .*: end it, or give another folder"):
        second.start()
    first.stop()

    with pytest.raises(FileNotFoundError, match="/no/java"):
        second.start()


@pytest.mark.usefixtures("without_java")
def test_a_second_ctrl_c_leaves_no_data_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    broker = EmbeddedKafka()
    broker._process = ChildProcess("Kafka", ["/no/java"], broker.log)
    monkeypatch.setattr(ChildProcess, "stop", interrupted)

    with pytest.raises(KeyboardInterrupt):
        broker.stop()

    assert not broker.folder.exists()
