# Each fault of the list, put into a copy of the chart, turns the tests red that it names; and without a fault they are green.

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.chart import chart
from tests.chart.faults import FAULTS

if TYPE_CHECKING:
    from tests.chart.cluster import Cluster
    from tests.chart.faults import Fault

HERE = Path(__file__).parent
TESTS_FAILED = 1
SECONDS = 280

pytestmark = [
    pytest.mark.usefixtures("helm", "promtool", "keda"),
    pytest.mark.skipif("CHART_UNDER_TEST" in os.environ, reason="a copy with a fault is not given another"),
    pytest.mark.timeout(SECONDS),
]


def _copy(tmp_path: Path) -> Path:
    return Path(
        shutil.copytree(chart.REPOSITORY / "helm" / "moderation-worker", tmp_path / "chart", symlinks=True)
    )


def _ran(copy: Path, cluster: Cluster | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CHART_UNDER_TEST": str(copy)}
    if cluster is not None:
        environment["CHART_CLUSTER"] = str(cluster.folder)
    # The first failure is enough; and no part of pytest is loaded that these tests do not use: it is started sixty times.
    lean = [
        "-x",
        f"--confcutdir={HERE}",
        "-pno:cacheprovider",
        "-pno:hypothesispytest",
        "-pno:cov",
        "-pno:anyio",
    ]
    command = [sys.executable, "-m", "pytest", "-q", *lean, *arguments]
    return subprocess.run(
        command,
        cwd=chart.REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: str(fault.name))
def test_a_fault_turns_the_tests_red(fault: Fault, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    copy = _copy(tmp_path)
    text = (copy / fault.file).read_text()
    assert fault.old in text, "the chart has changed: the fault must be written again"
    (copy / fault.file).write_text(text.replace(fault.old, fault.new))
    cluster = request.getfixturevalue("api") if fault.cluster else None
    file, expression = fault.caught_by

    done = _ran(copy, cluster, str(HERE / file), "-k", expression)

    assert done.returncode == TESTS_FAILED, done.stdout[-3000:]


def test_without_a_fault_the_same_tests_are_green(api: Cluster, tmp_path: Path) -> None:
    """Else red would mean nothing. One run for each file, with all expressions of that file."""
    copy = _copy(tmp_path)
    wanted: dict[str, set[str]] = {}
    for fault in FAULTS:
        wanted.setdefault(fault.caught_by[0], set()).add(f"({fault.caught_by[1]})")

    for file, expressions in sorted(wanted.items()):
        done = _ran(copy, api, str(HERE / file), "-k", " or ".join(sorted(expressions)))
        assert done.returncode == 0, done.stdout[-3000:]
