# Every import is declared: a package that only another one brings may be gone with that one's next version.

from __future__ import annotations

import ast
import sys
from importlib.metadata import packages_distributions
from typing import TYPE_CHECKING, Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.project.locks import PROJECT, ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OURS: Final = {"worker", "tests", "config", "helm"}
TESTING: Final = ROOT / "worker" / "testing"
"""What only tries the product out: of this, production has the simulator alone."""
BROUGHT: Final = packages_distributions()


def imported(files: Iterator[Path]) -> dict[str, set[str]]:
    """The foreign packages that files import, by the canonical name of the project that brings each, with who imports it."""
    found: dict[str, set[str]] = {}
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            for top in {name.partition(".")[0] for name in names} - OURS - sys.stdlib_module_names:
                (project,) = {canonicalize_name(name) for name in BROUGHT.get(top, [top])}
                found.setdefault(project, set()).add(str(path.relative_to(ROOT)))
    return found


def declared(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(text).name) for text in requirements}


RUN: Final = declared(PROJECT["project"]["dependencies"])
EXTRA: Final = declared(PROJECT["project"]["optional-dependencies"]["demo"])
MSK_IAM: Final = declared(PROJECT["project"]["optional-dependencies"]["msk-iam"])
DEV, BENCH = (
    declared([
        line for line in (ROOT / name).read_text(encoding="utf-8").splitlines() if line[:1] not in ("#", "")
    ])
    for name in ("requirements-dev.in", "requirements-bench.in")
)  # fmt: skip
"""What the benchmarks compare with is not installed here: it has the name that it is imported by."""


def in_production() -> Iterator[Path]:
    return (
        path
        for path in (ROOT / "worker").rglob("*.py")
        if TESTING not in path.parents or TESTING / "simulator" in path.parents
    )


def of_the_demo() -> Iterator[Path]:
    return (path for name in ("kafka", "checker", "demo") for path in (TESTING / name).rglob("*.py"))


@pytest.mark.parametrize(
    ("files", "allowed"),
    [
        (in_production(), RUN | MSK_IAM),
        (of_the_demo(), RUN | EXTRA),
        (
            (path for folder in ("tests", "config", "helm") for path in (ROOT / folder).rglob("*.py")),
            RUN | EXTRA | MSK_IAM | DEV | BENCH,
        ),
    ],
    ids=["the worker", "the demo", "the tests and tools"],
)
def test_every_import_is_declared(files: Iterator[Path], allowed: set[str]) -> None:
    found = imported(files)

    assert {project: files for project, files in found.items() if project not in allowed} == {}


def test_every_requirement_of_the_worker_is_imported() -> None:
    """Or it would be installed, locked and scanned for nobody."""
    assert (RUN | MSK_IAM) - imported(in_production()).keys() == set()
    assert EXTRA - imported(of_the_demo()).keys() == set()


def test_a_library_with_private_parts_that_are_used_is_pinned_to_its_minor_version() -> None:
    """
    A new minor version of kafka-python may change what worker/broker/kafka_private_parts.py rests on: it is looked at first.
    """
    (kafka,) = (
        wanted
        for wanted in map(Requirement, PROJECT["project"]["dependencies"])
        if wanted.name == "kafka-python"
    )

    assert "3.0.99" in kafka.specifier
    assert "3.1.0" not in kafka.specifier
