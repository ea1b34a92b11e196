# What the chart tests share: tools that are missing skip a test here and fail it under CI=true, and one API server for all.

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.chart import cluster, toolchain
from tests.chart.missing import give_up

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def helm() -> Path:
    """Helm is there."""
    try:
        return toolchain.program("helm")
    except toolchain.MissingError as missing:
        give_up(missing)


@pytest.fixture(scope="session")
def promtool() -> Path:
    """The program promtool."""
    try:
        return toolchain.program("promtool")
    except toolchain.MissingError as missing:
        give_up(missing)


@pytest.fixture(scope="session")
def actionlint() -> Path:
    """The program actionlint."""
    try:
        return toolchain.program("actionlint")
    except toolchain.MissingError as missing:
        give_up(missing)


@pytest.fixture(scope="session")
def keda() -> Path:
    """KEDA's own files: its CRDs and its list of triggers."""
    try:
        return toolchain.folder("keda")
    except toolchain.MissingError as missing:
        give_up(missing)


@pytest.fixture(scope="session")
def prometheus_operator() -> Path:
    """The Prometheus Operator's own files: its CRDs."""
    try:
        return toolchain.folder("prometheus-operator")
    except toolchain.MissingError as missing:
        give_up(missing)


@pytest.fixture(scope="session")
def api(helm: Path) -> Iterator[cluster.Cluster]:  # noqa: ARG001 - without helm nothing could be installed into it
    """A real API server: a new one, or that of the run which started this one."""
    if running := os.environ.get("CHART_CLUSTER"):
        yield cluster.Cluster.at(Path(running))
        return
    try:
        for name in ("etcd", "kube-apiserver"):
            toolchain.program(name)
    except toolchain.MissingError as missing:
        give_up(missing)
    with cluster.running() as made:
        yield made
