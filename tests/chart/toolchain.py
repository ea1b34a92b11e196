# The programs and documents that the chart tests need, and how each is had: Debian packages, one Go module, Go modules'
# own folders. Everything but Debian packages is kept outside the clone, under a name that changes with its version.
#
# Run as a program (`python -m tests.chart.toolchain`) it gets all of them; the tests only look. No test is here.

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

MODULE: Final = Path(__file__).parent / "tools"
KUBERNETES: Final = "1.36.3"
OLDEST_KUBERNETES: Final = "1.27.0"
NEWEST_KUBERNETES: Final = KUBERNETES

_PACKAGES: Final = {"etcd": "etcd-server", "promtool": "prometheus"}
"""Programs that Debian has, and the package of each."""

_BUILT: Final = {
    "helm": ("helm.sh/helm/v4/cmd/helm", ""),
    "kube-apiserver": (
        "k8s.io/kubernetes/cmd/kube-apiserver",
        # Without these the server calls itself v0.0.0, and the chart's kubeVersion refuses it.
        "".join(
            f" -X k8s.io/component-base/version.git{name}={value}"
            for name, value in zip(
                ("Version", "Major", "Minor"), (f"v{KUBERNETES}", *KUBERNETES.split(".")), strict=False
            )
        ),
    ),
}
"""Programs built from the module beside this file: the package and further linker flags."""

_INSTALLED: Final = {
    "actionlint": ("github.com/rhysd/actionlint/cmd/actionlint", "v1.7.12"),
}
"""Programs that are a Go module of their own."""

_FOLDERS: Final = {
    "keda": ("github.com/kedacore/keda/v2@v2.21.0", "h1:R6z2HZvstK4RLUMxroNACzBj74xGxt3kG59b5Xc+Xps="),
    "prometheus-operator": (
        "github.com/prometheus-operator/prometheus-operator@v0.85.0",
        "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
    ),
}
"""Modules that are read, not built (CRDs, KEDA's list of triggers), each with its checksum."""


class MissingError(Exception):
    """A tool is not there. The text says which, and how it is had."""


def cache() -> Path:
    """Where tools are kept from run to run."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "moderation-worker"


def program(name: str) -> Path:
    """A program's path. Raises MissingError."""
    if name in _PACKAGES:
        found = shutil.which(name)
        if found is None:
            raise MissingError(f"{name} is missing: apt-get install {_PACKAGES[name]}, or make chart-tools")
        return Path(found)
    path = _home(name) / name
    if not path.exists():
        raise MissingError(f"{name} is not built: make chart-tools")
    return path


def folder(name: str) -> Path:
    """The folder of a Go module, downloaded when it must be. Raises MissingError when that fails."""
    module, checksum = _FOLDERS[name]
    if shutil.which("go") is None:
        raise MissingError(f"{name} cannot be had: go is missing")
    done = subprocess.run(
        ["go", "mod", "download", "-json", module],
        cwd=cache_made(),
        capture_output=True,
        text=True,
        check=False,
    )
    reply = json.loads(done.stdout) if done.stdout else {"Error": done.stderr}
    if "Error" in reply:
        raise MissingError(f"{module} cannot be had: {reply['Error']}")
    if reply["Sum"] != checksum:
        raise MissingError(f"{module} is not what it was: its checksum is {reply['Sum']}")
    return Path(reply["Dir"])


def cache_made() -> Path:
    """The cache's folder, made if it is not there."""
    cache().mkdir(parents=True, exist_ok=True)
    return cache()


def install() -> None:
    """Gets every tool. Some six minutes of one processor for the first time, seconds after. Needs root for Debian packages."""
    wanted = [package for name, package in _PACKAGES.items() if shutil.which(name) is None]
    if wanted:
        run(["apt-get", "update", "-qq"])
        run(
            ["apt-get", "install", "-qq", "-y", "--no-install-recommends", *wanted],
            DEBIAN_FRONTEND="noninteractive",
        )
    for name, (package, flags) in _BUILT.items():
        _make(name, ["go", "build", "-trimpath", f"-ldflags=-s -w{flags}", "-o", "PART", package], MODULE)
    for name, (package, version) in _INSTALLED.items():
        _make(name, ["go", "install", "-trimpath", f"{package}@{version}"], cache_made())
    for name in _FOLDERS:
        folder(name)


def _home(name: str) -> Path:
    if name in _BUILT:
        digest = hashlib.sha256((MODULE / "go.sum").read_bytes()).hexdigest()[:16]
        return cache() / f"chart-tools-{digest}"
    return cache() / f"{name}-{_INSTALLED[name][1]}"


def _make(name: str, command: list[str], where: Path) -> None:
    home = _home(name)
    if (home / name).exists():
        return
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home) as part:
        target = Path(part) / name
        words = [str(target) if word == "PART" else word for word in command]
        run(words, where, GOBIN=part, GOFLAGS="-mod=readonly")
        target.rename(home / name)


def run(command: list[str], where: Path | None = None, **environment: str) -> None:
    """Print a command and run it. Raises CalledProcessError."""
    print("+", " ".join(re.sub(r"^-ldflags=.*", "-ldflags=…", word) for word in command), flush=True)  # noqa: T201 - a program's progress
    subprocess.run(command, cwd=where, env={**os.environ, **environment}, check=True)


if __name__ == "__main__":
    try:
        install()
    except (subprocess.CalledProcessError, FileNotFoundError, MissingError) as failure:
        sys.exit(f"the tools of the chart tests cannot be had: {failure}")
