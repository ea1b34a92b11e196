# What the production image leaves out, left out without building it: the program without its demo, its Kafka and its
# checker, run.

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

import pytest

from tests.project.locks import PROJECT, ROOT

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def program(tmp_path: Path) -> dict[str, Any]:
    """How `python -m worker` is started with what .dockerignore lets through."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    kept = {ROOT / line[1:] for line in lines if line.startswith("!worker/")}
    left_out = {
        path for line in lines if line.startswith("worker/") for path in ROOT.glob(line) if path not in kept
    }
    shutil.copytree(ROOT / "worker", tmp_path / "worker", ignore=shutil.ignore_patterns("__pycache__"))
    for path in left_out:
        copy = tmp_path / path.relative_to(ROOT)
        if copy.is_dir():
            shutil.rmtree(copy)
        else:
            copy.unlink(missing_ok=True)
    return {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": str(tmp_path)}, "text": True}


def test_every_file_that_is_no_module_is_installed_with_the_package() -> None:
    """The page is one of them: a wheel without it would start and fail."""
    listed = PROJECT["tool"]["setuptools"]["package-data"]["worker"]
    package = ROOT / "worker"
    paths = [path for path in package.rglob("*") if path.is_file() and path.suffix not in {".py", ".pyc"}]
    files = {str(path.relative_to(package)) for path in paths}

    assert "runtime/page.html" in files
    assert files == {name for name in files if any(fnmatch(name, pattern) for pattern in listed)}


def test_of_what_tries_the_product_out_the_simulator_alone_is_there(program: dict[str, Any]) -> None:
    script = "import pkgutil, worker.testing as t; print(t.__file__, *(m.name for m in pkgutil.iter_modules(t.__path__)))"

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, **program)

    assert done.stdout == f"{program['cwd']}/worker/testing/__init__.py simulator\n"


def test_where_the_demo_is_left_out_it_says_where_it_is(program: dict[str, Any]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "worker", "demo"], capture_output=True, check=False, **program
    )

    assert done.returncode == 1
    assert "make demo" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["run", "check", "outcomes", "topics create", "simulate"])
def test_every_other_command_is_there_without_the_demo(program: dict[str, Any], command: str) -> None:
    words = [sys.executable, "-m", "worker", *command.split(), "--help"]

    done = subprocess.run(words, capture_output=True, check=False, **program)

    assert done.returncode == 0, done.stderr


def test_the_local_api_runs_without_the_demo(program: dict[str, Any]) -> None:
    words = [sys.executable, "-m", "worker", "simulate", "--key=test"]

    with subprocess.Popen(words, stdout=subprocess.PIPE, **program) as running:
        assert running.stdout is not None
        printed = running.stdout.readline()
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=30)

    assert re.fullmatch(r"listening on http://127\.0\.0\.1:\d+\n", printed)
    assert running.returncode == 0
