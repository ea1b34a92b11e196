# What the tests of the page share: a browser and axe-core. Where one is missing a test is skipped, and fails under CI=true.

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chart.missing import give_up
from tests.chart.toolchain import MissingError
from tests.page import toolchain

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def browser() -> Path:
    """The program Chromium."""
    try:
        return toolchain.browser()
    except MissingError as missing:
        give_up(missing)


@pytest.fixture(scope="session")
def axe() -> str:
    """The text of axe-core."""
    try:
        return toolchain.axe()
    except MissingError as missing:
        give_up(missing)
