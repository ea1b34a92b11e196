# A fresh machine, on each Python that is claimed and is here: every lock from nothing, and the core's tests upon it.
#
# Everything goes through what a person or the image would run: the Makefile and the Dockerfile. A newer release of every
# locked package is offered beside the index, as it will be next year. This needs an index, or pip's cache of one.

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest

from tests.install.pythons import found
from tests.project.locks import BUILD, LOCKS, PYTHONS, ROOT, pins
from worker import __version__

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(900)

NEWER: Final = "9999.0"
CORE: Final = "tests/unit/domain"
NOT_CLONED: Final = shutil.ignore_patterns(
    ".git", ".venv*", ".*_cache", ".hypothesis", "__pycache__", "*.egg-info", "build", ".coverage*"
)


@dataclass(frozen=True)
class Machine:
    """A clone with nothing installed, and one Python."""

    python: Path
    clone: Path
    offered: Path

    def run(self, *words: str | Path, **environment: str) -> str:
        """A command in the clone, which must succeed; returns what it wrote."""
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTEST_", "COV_", "MAKE"))
        }
        offered = {
            "PIP_FIND_LINKS": str(self.offered),
            "PIP_NO_COMPILE": "1",
        }  # to compile is half of the time
        done = subprocess.run(
            words, cwd=self.clone, env={**clean, **offered, **environment},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-6000:]
        return done.stdout

    def make(self, lock: str, home: Path) -> None:
        """Installs a lock into an environment as `make venv` and `make demo` do."""
        stamp = home / lock.replace("requirements-", "").replace(".txt", ".installed")
        named = [] if home.exists() else [f"PYTHON={self.python}"]
        self.run("make", f"VENV={home}", *named, stamp)

    def build(self, home: Path) -> None:
        """Installs the worker's own lock as the image's first stage does."""
        self.run(self.python, "-m", "venv", home)
        dockerfile = (self.clone / "Dockerfile").read_text().replace("\\\n", " ")
        commands = re.findall(r"/opt/worker/bin/pip (install [^&\n]*|check)", dockerfile)
        assert len(commands) == 4
        for command in commands:
            self.run(home / "bin" / "pip", *command.replace('"${LOCK}"', "requirements.txt").split())

    def installed(self, home: Path) -> dict[str, str]:
        """What is in an environment."""
        script = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
        found = json.loads(self.run(home / "bin" / "python", "-I", "-c", script))
        return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found.items()}


@pytest.fixture(scope="module")
def offered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a newer release of everything that is locked, and of pip: each a wheel that holds nothing."""
    folder = tmp_path_factory.mktemp("newer")
    for name in {"pip"}.union(*(pins(lock) for lock in (BUILD, *LOCKS))):
        stem = f"{name.replace('-', '_')}-{NEWER}"
        with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
            about = f"{stem}.dist-info"
            wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {NEWER}\n")
            wheel.writestr(
                f"{about}/WHEEL",
                "Wheel-Version: 1.0\nGenerator: here\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            )
            wheel.writestr(f"{about}/RECORD", "")
    return folder


@pytest.fixture(
    scope="module",
    # The newest first: it takes longest, and two run at a time.
    params=[pytest.param(python, marks=pytest.mark.xdist_group(python)) for python in reversed(PYTHONS)],
)
def machine(
    request: pytest.FixtureRequest, offered: Path, tmp_path_factory: pytest.TempPathFactory
) -> Machine:
    """One machine for each Python."""
    if request.param not in found():
        pytest.skip(f"Python {request.param} is not here")
    clone = tmp_path_factory.mktemp(f"python{request.param}-") / "clone"
    shutil.copytree(ROOT, clone, ignore=NOT_CLONED)
    return Machine(found()[request.param], clone, offered)


def expected(lock: str, installed: dict[str, str]) -> dict[str, str]:
    """What must be in an environment after a lock was installed; where nothing locks pip, the one that is there stays."""
    return {"pip": installed["pip"], **pins(BUILD), **pins(lock), "moderation-worker": __version__}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_is_installed_as_it_is_though_newer_releases_are_there(machine: Machine, lock: str) -> None:
    """
    By the pip that this Python brings, into nothing. A resolver would look at the newer ones, and an older pip would even
    take one, for which there is no hash.
    """
    home = machine.clone.parent / lock
    if lock == "requirements.txt":
        machine.build(home)
    else:
        machine.make(lock, home)

    assert machine.installed(home) == expected(lock, machine.installed(home))
    assert (
        machine.run(home / "bin" / "moderation-worker", "--version") == f"moderation-worker {__version__}\n"
    )


def test_the_newest_pip_installs_a_lock_as_it_is_too(machine: Machine) -> None:
    """The demo's: the one for developers holds a pip, which would take the newest one's place on the way."""
    home, lock = machine.clone.parent / "newest", "requirements-demo.txt"
    machine.run(machine.python, "-m", "venv", home)
    machine.run(
        home / "bin" / "python", "-m", "pip", "install", "--quiet", "--upgrade", "pip", PIP_FIND_LINKS=""
    )

    machine.make(lock, home)

    assert machine.installed(home) == expected(lock, machine.installed(home))


def test_the_cores_tests_pass(machine: Machine) -> None:
    """On the Python that runs this, `make test` runs them, with all others."""
    if found().get("{}.{}".format(*sys.version_info)) == machine.python:
        pytest.skip("make test runs them on this Python")
    if os.environ.get("CI") and machine.python != next(
        found()[each] for each in reversed(PYTHONS) if each in found()
    ):
        pytest.skip("in CI only the newest Python runs them, beside that of make test")
    home = machine.clone.parent / "requirements-dev.txt"
    if not home.exists():
        machine.make("requirements-dev.txt", home)

    machine.run(home / "bin" / "python", "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", CORE)
