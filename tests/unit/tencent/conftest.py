# The signers that the tests of signatures ask for.

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.unit.tencent.signing import APP, KEY, Bench

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def filed(tmp_path: Path) -> Bench:
    path = tmp_path / "key"
    path.write_text(f"{KEY}\n")
    return Bench(replace(APP, secret_key=None, secret_key_file=path))
