# What a demo's environment asks and leaves behind. That it runs: tests/process/test_demo.py.

from __future__ import annotations

import http.server
import threading
from typing import TYPE_CHECKING, Any

import pytest

from worker.testing.demo.environment import DemoEnvironment
from worker.testing.demo.main import _question

if TYPE_CHECKING:
    from pathlib import Path


def test_the_simulator_is_asked_past_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a company's proxy the demo said after 30 s that the simulator did not listen: it had asked the proxy."""

    class Healthy(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: Any) -> None:
            pass

    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    with http.server.HTTPServer(("127.0.0.1", 0), Healthy) as server, DemoEnvironment() as environment:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        (environment.folder / "simulator.log").write_text(
            f"listening on http://127.0.0.1:{server.server_port}\n"
        )

        assert environment._simulator_listens()
        assert environment.control("stats") == {}
        server.shutdown()


def test_a_second_ctrl_c_leaves_no_folder_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one had ended nothing yet but the workers: settings, the key and Kafka's data stayed."""
    environment = DemoEnvironment()
    ended: list[str] = []

    class Broker:
        def stop(self) -> None:
            ended.append("Kafka")

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(environment, "stop_workers", interrupted)
    monkeypatch.setattr(environment, "_kafka", Broker())

    with pytest.raises(KeyboardInterrupt):
        environment.close()

    assert ended == ["Kafka"]
    assert not environment.folder.exists()


def test_the_question_of_a_demo_can_be_pasted_whatever_its_folder_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "a folder"))
    (tmp_path / "a folder").mkdir()
    with DemoEnvironment() as environment:
        assert f"--config '{environment.folder}/worker-1.yaml' --status" in _question(environment)
