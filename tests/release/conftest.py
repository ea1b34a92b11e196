# What the release tests share: what is published, made once; and the tools of the chart's and the image's tests.

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chart.conftest import helm
from tests.image.conftest import engine
from tests.release import artifacts

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["engine", "helm"]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Sdist and wheel."""
    return artifacts.python(tmp_path_factory.mktemp("dist"))
