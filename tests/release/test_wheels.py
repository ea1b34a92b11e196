# Every dependency has a wheel for each Python that is claimed, on both architectures of the image; what has none is pure
# Python, and is built from its locked source. Asked of the index, with the locks' hashes; nothing is installed.

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.project.locks import PYTHONS, ROOT, pins

if TYPE_CHECKING:
    from pathlib import Path

WITHOUT_WHEEL = {"tls-sig-api-v2"}
"""Published as a source archive alone: one file of pure Python, the same everywhere."""
NEWEST_GLIBC = "2_28"
"""The oldest C library that all wheels work with: that of Debian 10 and RHEL 8, older than any base of the image."""


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("python", PYTHONS)
def test_every_dependency_has_a_wheel_but_those_that_need_none(
    python: str, machine: str, tmp_path: Path
) -> None:
    """The index gives what the lock allows: a wheel of another file than was locked would be refused."""
    report = tmp_path / "report.json"
    tags = [f"--platform=manylinux_{glibc}_{machine}" for glibc in ("2_17", NEWEST_GLIBC)]
    command = [
        sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--dry-run", "--ignore-installed",
        "--no-deps", "--require-hashes", "--only-binary=:all:", f"--no-binary={','.join(WITHOUT_WHEEL)}", f"--python-version={python}",
        "--implementation=cp", *tags, f"--platform=manylinux2014_{machine}", f"--target={tmp_path}", f"--report={report}",
        "--requirement", str(ROOT / "requirements.txt"),
    ]  # fmt: skip

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr[-2000:]
    found = {
        item["metadata"]["name"].lower().replace("_", "-"): item["download_info"]["url"].rpartition("/")[2]
        for item in json.loads(report.read_text())["install"]
    }
    assert len(found) == len(pins("requirements.txt"))
    sources = {name for name, file in found.items() if not file.endswith(".whl")}
    assert sources == WITHOUT_WHEEL
    compiled = [file for file in found.values() if not file.endswith(("-any.whl", ".tar.gz"))]
    assert len(compiled) >= 10
    assert all(file.endswith(f"{machine}.whl") for file in compiled)
