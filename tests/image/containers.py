# Images built with buildah and containers run with podman, in a storage of our own. What a test wants of them is said there.

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.image import toolchain

if TYPE_CHECKING:
    from collections.abc import Sequence

REPOSITORY: Final = Path(__file__).parents[2]
IMAGE: Final = "localhost/moderation-worker:test"
BUILD_STAGE: Final = "localhost/moderation-worker:test-build"

LOCKED_DOWN: Final = (
    "--read-only",
    "--read-only-tmpfs=false",
    "--cap-drop=all",
    "--security-opt=no-new-privileges",
    "--tmpfs=/tmp",
)
"""What the chart's security contexts mean to podman."""

_BUILD_SECONDS: Final = 600.0
_RUN_SECONDS: Final = 120.0


def context() -> Path:
    """The folder that the image is built from: the repository, or the copy that IMAGE_CONTEXT names."""
    return Path(os.environ.get("IMAGE_CONTEXT", REPOSITORY))


@dataclass(frozen=True)
class Ended:
    """A process that has ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Engine:
    """buildah and podman on one storage."""

    storage: tuple[str, ...]

    def build(
        self,
        *,
        tag: str = IMAGE,
        folder: Path | None = None,
        fresh: bool = False,
        lock: str = "requirements.txt",
    ) -> None:
        """Builds the image; a fresh one with nothing of an earlier build. An assertion with the log when that fails."""
        # The first stage has a name of its own, so that pruning leaves it for the next build.
        for options in (["--target=build", f"--tag={tag}-build"], [f"--tag={tag}"]):
            pull = "--pull-never" if toolchain.base() == toolchain.STAND_IN else "--pull"
            arguments = [
                "--isolation=chroot",
                "--network=host",
                "--format=docker",
                "--no-cache" if fresh and options == [f"--tag={tag}"] else "--layers",
                pull,
                *options,
            ]
            done = self._buildah(
                "build",
                *arguments,
                f"--build-arg=BASE={toolchain.base()}",
                "--build-arg=REVISION=0123abc",
                f"--build-arg=LOCK={lock}",
                str(folder or context()),
            )
            assert done.code == 0, (done.out + done.err)[-4000:]

    def export(self, image: str, to: Path) -> Path:
        """The whole root of an image as one archive."""
        name = f"export-{os.getpid()}"
        made = self._podman("create", "--no-healthcheck", f"--name={name}", image)
        assert made.code == 0, made.err
        try:
            done = self._podman("export", f"--output={to}", name)
            assert done.code == 0, done.err
        finally:
            self._podman("rm", "--force", name)
        return to

    def forget(self, tag: str) -> None:
        """Removes an image and whatever no other needs."""
        self._buildah("rmi", "--force", tag, f"{tag}-build")
        self._buildah("rmi", "--prune")

    def inspect(self, image: str = IMAGE) -> dict[str, Any]:
        """What is written on an image."""
        done = self._podman("image", "inspect", image)
        assert done.code == 0, done.err
        return dict(json.loads(done.out)[0])

    def run(self, *arguments: str, options: Sequence[str] = (), image: str = IMAGE) -> Ended:
        """One container from its start to its end, without a network and locked down."""
        return self._podman(
            *self._run_words("--rm", "--network=none", *LOCKED_DOWN, *options), image, *arguments
        )

    def start(self, name: str, *arguments: str, options: Sequence[str] = (), image: str = IMAGE) -> Container:
        """A container that goes on. The caller removes it."""
        done = self._podman(*self._run_words("--detach", f"--name={name}", *options), image, *arguments)
        assert done.code == 0, done.err
        return Container(self, name)

    def _run_words(self, *options: str) -> list[str]:
        return [
            "run",
            "--runtime=runc",
            # systemd would be asked to run the image's own check.
            "--no-healthcheck",
            # The limits of a container are below podman's defaults on small machines.
            "--ulimit=nofile=20000:20000",
            "--ulimit=nproc=1024:1024",
            *options,
        ]

    def _podman(self, *arguments: str) -> Ended:
        outside = ["--cgroup-manager=cgroupfs", "--events-backend=none"]
        return _ended(["podman", *self.storage, *outside, *arguments], _RUN_SECONDS)

    def _buildah(self, *arguments: str) -> Ended:
        return _ended(["nice", "buildah", *self.storage, *arguments], _BUILD_SECONDS)


@dataclass(frozen=True)
class Container:
    """A container that was started."""

    engine: Engine
    name: str

    def stop(self, seconds: float) -> int:
        """SIGTERM, SIGKILL after this many seconds; returns the exit code."""
        self.engine._podman("stop", f"--time={seconds:g}", self.name)
        return self.wait()

    def wait(self) -> int:
        """Until it ends; returns the exit code."""
        return int(self.engine._podman("wait", self.name).out)

    def logs(self) -> str:
        """What it wrote."""
        done = self.engine._podman("logs", self.name)
        return done.out + done.err

    def execute(self, *command: str) -> Ended:
        """A command inside it."""
        return self.engine._podman("exec", self.name, *command)

    def remove(self) -> None:
        """Ends it at once, if it runs, and forgets it."""
        self.engine._podman("rm", "--force", "--time=0", self.name)


def _ended(command: list[str], seconds: float) -> Ended:
    # conmon leaves a file "oom" in its folder when a container exceeds its memory.
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=False, timeout=seconds
        )
    return Ended(done.returncode, done.stdout, done.stderr)
