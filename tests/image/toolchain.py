# What the image tests need, and how it is had: Debian packages, two programs from PyPI, and a base image. Where the real
# base cannot be pulled, a stand-in of the same Debian release and Python is made from Debian's own packages.
#
# Run as a program (`python -m tests.image.toolchain`) it gets all of it; the tests only look. No test is here.

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Final

from tests.chart.toolchain import MissingError, cache, run

HERE: Final = Path(__file__).parent
STAND_IN: Final = "localhost/python-base:3.13"
RELEASE: Final = "trixie"

_PACKAGES: Final = {"buildah": "buildah", "podman": "podman", "runc": "runc", "mmdebstrap": "mmdebstrap"}
_LEFT_OUT: Final = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*")
_CERTIFICATES: Final = "/etc/ssl/certs/ca-certificates.crt"


def base() -> str:
    """The image to build on: what IMAGE_BASE names (it is pulled), else the stand-in."""
    return os.environ.get("IMAGE_BASE") or STAND_IN


def program(name: str) -> Path:
    """A program's path. Raises MissingError."""
    if name in _PACKAGES:
        found = shutil.which(name)
        if found is None:
            raise MissingError(f"{name} is missing: apt-get install {_PACKAGES[name]}, or make image-tools")
        if os.geteuid() != 0:
            raise MissingError(f"{name} is used as root here: run the image tests as root")
        return Path(found)
    path = _python_tools() / "bin" / name
    if not path.exists():
        raise MissingError(f"{name} is not installed: make image-tools")
    return path


def storage() -> list[str]:
    """The options that keep our images apart from all others. Raises MissingError."""
    program("buildah")
    for driver in ("overlay", "vfs"):
        home = cache() / "images" / driver
        # Podman takes no run root of more than 50 characters.
        run = f"/run/moderation-worker-{hashlib.sha256(bytes(home)).hexdigest()[:8]}"
        options = [
            f"--root={home}",
            f"--runroot={run}",
            f"--storage-driver={driver}",
        ]
        done = subprocess.run(["buildah", *options, "images", "-q"], capture_output=True, check=False)
        if done.returncode == 0 and (driver == "vfs" or _mounts(options)):
            return options
    raise MissingError("buildah can use neither overlay nor vfs here")


def has_base() -> bool:
    """Whether the stand-in is there, or another base is named."""
    if base() != STAND_IN:
        return True
    command = ["buildah", *storage(), "inspect", "--type", "image", STAND_IN]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def demand_base() -> None:
    """Raises MissingError when there is no base to build on."""
    if not has_base():
        raise MissingError("the base image is not made: make image-tools")


def install() -> None:
    """Gets everything: a minute for the first time. Needs root."""
    wanted = [package for name, package in _PACKAGES.items() if shutil.which(name) is None]
    if wanted:
        run(["apt-get", "update", "-qq"])
        run(
            ["apt-get", "install", "-qq", "-y", "--no-install-recommends", *wanted],
            DEBIAN_FRONTEND="noninteractive",
        )
    home = _python_tools()
    if not (home / "done").exists():
        venv.create(home, with_pip=True, clear=True)
        pip = str(home / "bin" / "pip")
        run([pip, "install", "--quiet", "--no-deps", "--require-hashes", "-r", str(HERE / "tools.txt")])
        run([pip, "check"])
        (home / "done").touch()
    if not has_base():
        _make_stand_in()


def _python_tools() -> Path:
    digest = hashlib.sha256((HERE / "tools.txt").read_bytes()).hexdigest()[:16]
    return cache() / f"image-tools-{digest}"


def _mounts(options: list[str]) -> bool:
    """Whether this kernel and user can mount the driver's layers: a container often cannot."""
    made = subprocess.run(
        ["buildah", *options, "from", "scratch"], capture_output=True, text=True, check=False
    )
    if made.returncode:
        return False
    name = made.stdout.strip()
    mounted = subprocess.run(["buildah", *options, "mount", name], capture_output=True, check=False)
    subprocess.run(["buildah", *options, "rm", name], capture_output=True, check=False)
    return mounted.returncode == 0


def _make_stand_in() -> None:
    """The slim image's like: Debian's minimum, Python, and the certificates of this machine, which the build may need."""
    archive = cache() / f"{RELEASE}.tar"
    excluded = [f"--dpkgopt=path-exclude={path}" for path in _LEFT_OUT]
    packages = "--include=python3,python3-venv,ca-certificates"
    run(["mmdebstrap", "--quiet", "--variant=minbase", packages, *excluded, RELEASE, str(archive)])
    buildah = ["buildah", *storage()]
    name = subprocess.run(
        [*buildah, "from", "scratch"], capture_output=True, text=True, check=True
    ).stdout.strip()
    run([*buildah, "add", "--quiet", name, str(archive), "/"])
    if Path(_CERTIFICATES).exists():
        run([*buildah, "copy", "--quiet", name, _CERTIFICATES, _CERTIFICATES])
        run([*buildah, "config", "--env", f"PIP_CERT={_CERTIFICATES}", name])
    run([*buildah, "commit", "--quiet", "--rm", name, STAND_IN])
    archive.unlink()


if __name__ == "__main__":
    try:
        install()
    except (subprocess.CalledProcessError, FileNotFoundError, MissingError) as failure:
        sys.exit(f"the tools of the image tests cannot be had: {failure}")
