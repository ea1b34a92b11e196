# What a test does when a tool is missing: the same for the chart and the image.

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from tests.chart.toolchain import MissingError


def give_up(missing: MissingError) -> NoReturn:
    """Skips the test here, with the reason; fails it under CI=true, where nothing may be missing."""
    if os.environ.get("CI") == "true":
        pytest.fail(str(missing))
    pytest.skip(str(missing))
