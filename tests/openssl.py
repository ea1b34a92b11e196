# The program openssl, for tests that need keys and certificates: skipped where there is none, failed under CI=true. No test is here.

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


def openssl(*arguments: str | Path, folder: Path | None = None, given: bytes = b"") -> bytes:
    """What it prints, run in this folder with this input."""
    if shutil.which("openssl") is None and os.environ.get("CI") != "true":
        pytest.skip("openssl is missing: on Debian, apt-get install openssl")
    return subprocess.run(
        ["openssl", *arguments], cwd=folder, input=given, check=True, capture_output=True, timeout=60
    ).stdout
