# File descriptors are taken at the start, or their lack is reported: in processes of their own, with real limits.

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from worker.runtime.open_file_limit import FileShortage

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = """
import json, resource, sys
soft, hard, apps, connections = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
from worker.errors import SettingsError
from worker.runtime.open_file_limit import take_file_descriptors
try:
    short = take_file_descriptors(apps, connections)
    said = None if short is None else [short.needed, short.limit]
except SettingsError as error:
    said = str(error)
print(json.dumps([said, *resource.getrlimit(resource.RLIMIT_NOFILE)]))
"""
NEEDED = 5 * 200 + 256 + 128 + 64
"""By one app with the default limits."""


def taken(soft: int, hard: int, apps: int = 1, connections: int = 200) -> list[Any]:
    """Return what the script printed, and the limits afterwards."""
    arguments = map(str, (soft, hard, apps, connections))
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, check=True
    )
    said: list[Any] = json.loads(ended.stdout)
    return said


def test_the_soft_limit_is_raised_to_what_is_needed() -> None:
    """1024 is what most systems begin with, for programs of another time."""
    assert taken(1024, 4096) == [None, NEEDED, 4096]


def test_a_limit_that_suffices_is_left_as_it_is() -> None:
    assert taken(3000, 4096) == [None, 3000, 4096]


def test_a_shortage_is_returned_and_all_that_there_is_is_taken() -> None:
    assert taken(512, 1024) == [[NEEDED, 1024], 1024, 1024]


def test_each_app_has_connections_of_its_own() -> None:
    assert taken(1024, 4096, apps=4) == [[NEEDED + 3 * 1000, 4096], 4096, 4096]


def test_a_limit_with_which_nothing_works_is_refused() -> None:
    said, soft, _ = taken(256, 400)

    assert said.startswith("ulimit -n = 400: raise the hard limit of open files")
    assert soft == 400


def test_the_remedy_names_the_number_and_the_setting() -> None:
    remedy = FileShortage(2000, 1024).remedy

    assert "2000" in remedy
    assert "http.max_connections" in remedy


def test_a_worker_logs_the_shortage_before_it_needs_kafka(tmp_path: Path) -> None:
    """With a broker that is not there: the line comes before anything else can fail."""
    limit = 1100
    key = tmp_path / "key"
    key.write_text("5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e")
    config = tmp_path / "worker.yaml"
    app = {
        "sdk_app_id": 1400000001,
        "identifier": "admin",
        "secret_key_file": str(key),
        "region": "singapore",
    }
    sections = {
        "kafka": {"bootstrap_servers": ["127.0.0.1:1"], "common": {"bootstrap_timeout_ms": 500}},
        "tencent": {"apps": {"main": app}},
        "server": {"host": "127.0.0.1", "port": 0},
    }
    config.write_text(json.dumps(sections))

    ended = subprocess.run(
        ["/bin/sh", "-c", f"ulimit -n {limit}; exec {sys.executable} -m worker run --config {config}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    events = {line["event"]: line for line in map(json.loads, ended.stdout.splitlines())}
    assert events["files.limited"]["limit"] == limit
    assert events["files.limited"]["needed"] == NEEDED
    assert str(NEEDED) in events["files.limited"]["remedy"]
