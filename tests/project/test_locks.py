# Each lock is whole: whatever a locked package asks for, on any Python that is claimed, is in the lock.
#
# Locks are installed without a resolver, so nothing else would bring it. What a package asks for is in its metadata,
# which is the same for all wheels of a version: it is read here, and evaluated as another Python or machine would.

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, distribution
from typing import TYPE_CHECKING, Final

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.project.locks import BENCH, BUILD, LOCKS, PROJECT, PYTHONS, ROOT, pins

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MACHINES: Final = ("x86_64", "aarch64")


def requirements(name: str) -> list[str]:
    """What the project itself asks for in one of its locks."""
    project = PROJECT["project"]
    asked = [*project["dependencies"]]
    for extra in LOCKS[name]:
        asked += project["optional-dependencies"][extra]
    if name == "requirements-dev.txt":
        text = (ROOT / "requirements-dev.in").read_text(encoding="utf-8")
        asked += [line for line in text.splitlines() if line and not line.startswith("#")]
    return asked


def environment(python: str, machine: str) -> dict[str, str]:
    """What markers see on another Python, on another machine."""
    here = {name: str(value) for name, value in default_environment().items()}
    return {
        **here,
        "python_version": python,
        "python_full_version": f"{python}.0",
        "platform_machine": machine,
    }


def missing(asked: list[str], locked: Mapping[str, str], there: Mapping[str, str]) -> Iterator[str]:
    """Walk through everything that is asked for, directly or by what is locked, and yield what the lock does not give."""
    waiting = [("the project", Requirement(text)) for text in asked]
    seen: set[tuple[str, str]] = set()
    while waiting:
        asker, wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        if name not in locked or not wanted.specifier.contains(locked[name], prereleases=True):
            yield f"{asker} asks for {wanted}, and {locked.get(name, 'nothing')} is locked"
            continue
        for extra in ("", *wanted.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            installed = distribution(name)
            assert installed.version == locked[name], f"the environment is stale: {name}; make venv"
            for text in installed.requires or []:
                inner = Requirement(text)
                if inner.marker is None or inner.marker.evaluate({**there, "extra": extra}):
                    waiting.append((f"{name} {installed.version}", inner))


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_holds_all_that_its_packages_ask_for(name: str, python: str, machine: str) -> None:
    """On Python 3.13 of an Arm machine too, though the lock was made by another Python on another machine."""
    assert not [*missing(requirements(name), pins(BUILD) | pins(name), environment(python, machine))]


def test_a_lock_that_lacks_something_is_found() -> None:
    """What a package asks for on one Python alone, or by an extra of another package, counts as well."""
    name, holes = "requirements-dev.txt", {"attrs", "lz4", "coverage"}
    locked = {project: version for project, version in pins(name).items() if project not in holes}

    found = [*missing(requirements(name), locked, environment("3.11", "x86_64"))]

    assert all(any(f"asks for {hole}" in line for line in found) for hole in holes), found


@pytest.mark.parametrize("name", [BUILD, BENCH, *LOCKS])
def test_everything_in_a_lock_is_pinned_and_has_a_hash(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    entries = re.findall(r"^[^\s#].*(?:\n    --hash.*)*", text, re.MULTILINE)

    assert entries
    for entry in entries:
        assert re.match(r"[\w.-]+==[\w.]+ \\\n    --hash=sha256:[0-9a-f]{64}", entry), entry


def test_the_locks_agree_with_each_other() -> None:
    """They are installed one above the other, into one environment."""
    smallest, *extras, largest = LOCKS
    for name in extras:
        assert pins(smallest).items() <= pins(name).items() <= pins(largest).items()
    for name in LOCKS:
        assert all(pins(name).get(project, version) == version for project, version in pins(BUILD).items())


def test_the_benchmarks_compare_with_what_runs_on_the_same_packages() -> None:
    """And their lock has what they ask for."""
    lines = (ROOT / "requirements-bench.in").read_text(encoding="utf-8").splitlines()
    wanted = [Requirement(line) for line in lines if line[:1] not in ("#", "")]

    assert pins("requirements.txt").items() <= pins(BENCH).items()
    for each in wanted:
        assert each.specifier.contains(pins(BENCH)[canonicalize_name(each.name)])


@pytest.mark.parametrize("name", LOCKS)
def test_nothing_is_locked_that_nobody_asks_for(name: str) -> None:
    """A package that was left behind is one more that can go wrong."""
    asked = {canonicalize_name(Requirement(text).name) for text in requirements(name)}
    for project in pins(name):
        try:
            asked |= {
                canonicalize_name(Requirement(text).name) for text in distribution(project).requires or []
            }
        except PackageNotFoundError:
            pytest.fail(f"the environment is stale: {project} is not installed; make venv")

    assert pins(name).keys() <= asked
