# What the tests of the page need, and how it is had: Debian's headless Chromium, and axe-core from the npm registry.
#
# Run as a program (`python -m tests.page.toolchain`) it gets both; the tests only look. No test is here.

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Final

from tests.chart.toolchain import MissingError, cache, run

AXE: Final = "4.11.0"
_AXE_SHA512: Final = (
    "ilYanEU8vxxBexpJd8cWM4ElSQq4QctCLKih0TSfjIfCQTeyH/6zVrmIJfLPrKTKJRbiG+cfnZbQIjAlJmF1jQ=="
)
"""Of the package, as npm writes it into a lock."""
_MEMBER: Final = "package/axe.min.js"

_BROWSERS: Final = ("chromium-headless-shell", "chromium", "google-chrome")
"""The first is Debian's smaller package without windows; each runs the tests."""


def browser() -> Path:
    """Return the browser's path. Raises MissingError."""
    found = next((path for name in _BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        raise MissingError(f"no Chromium: apt-get install {_BROWSERS[0]}, or make page-tools")
    return Path(found)


def axe() -> str:
    """Return the text of axe-core. Raises MissingError."""
    path = _axe_path()
    if not path.exists():
        raise MissingError("axe-core is missing: make page-tools")
    return path.read_text(encoding="utf-8")


def install() -> None:
    """Get both: some 20 seconds for the first time. Needs root where Chromium is missing, and npm where axe-core is."""
    if not any(shutil.which(name) for name in _BROWSERS):
        run(["apt-get", "update", "-qq"])
        run(
            ["apt-get", "install", "-qq", "-y", "--no-install-recommends", _BROWSERS[0]],
            DEBIAN_FRONTEND="noninteractive",
        )
    path = _axe_path()
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as part:
            run(["npm", "pack", "--silent", "--pack-destination", part, f"axe-core@{AXE}"])
            archive = Path(part) / f"axe-core-{AXE}.tgz"
            digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
            if digest != _AXE_SHA512:
                raise MissingError(f"axe-core {AXE} is not what it was: its SHA-512 is {digest}")
            with tarfile.open(archive) as package:
                package.extract(_MEMBER, part, filter="data")
            (Path(part) / _MEMBER).rename(path)


def _axe_path() -> Path:
    return cache() / f"axe-core-{AXE}" / "axe.min.js"


if __name__ == "__main__":
    try:
        install()
    except (subprocess.CalledProcessError, FileNotFoundError, MissingError) as failure:
        sys.exit(f"the tools of the page's tests cannot be had: {failure}")
