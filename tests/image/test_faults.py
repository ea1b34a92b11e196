# Each fault put into a copy of the Dockerfile on purpose turns the image's tests red.

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.image.containers import REPOSITORY, context

if TYPE_CHECKING:
    from tests.image.containers import Engine

HERE: Final = Path(__file__).parent
TESTS_FAILED: Final = 1
TAG: Final = "localhost/moderation-worker:fault"
CONTEXT: Final = (
    "LICENSE",
    "README.md",
    "pyproject.toml",
    "requirements.txt",
    "requirements-build.txt",
    "requirements-msk-iam.txt",
    "Dockerfile",
    ".dockerignore",
)

pytestmark = [
    pytest.mark.skipif("IMAGE_TAG" in os.environ, reason="an image with a fault is not given another"),
    pytest.mark.timeout(600),
]


@dataclass(frozen=True)
class Fault:
    """
    One fault.

    Attributes:
        old: The text that is there.
        new: What is put there instead.
        caught_by: The tests that must fail: a file of this folder and an expression for ``-k``.
        file: Where it goes.

    """

    old: str
    new: str
    caught_by: tuple[str, str]
    file: str = "Dockerfile"


FAULTS: Final = (
    # read
    Fault('ENTRYPOINT ["tini", "--", "moderation-worker"]', "ENTRYPOINT tini -- moderation-worker", ("test_dockerfile.py", "hadolint")),
    Fault("FROM ${BASE}\nARG", "FROM docker.io/library/python:3.13-slim-trixie\nARG", ("test_dockerfile.py", "pinned_from_outside")),
    Fault("--require-hashes --no-build-isolation ", "--no-build-isolation ", ("test_dockerfile.py", "locked_by_hash")),
    Fault("--no-deps --require-hashes --no-build-isolation ", "--require-hashes --no-build-isolation ", ("test_dockerfile.py", "locked_by_hash")),
    Fault("worker/testing/*\n", "", ("test_image.py", "no_demo"), ".dockerignore"),
    Fault("ARG VERSION=0.1.0", "ARG VERSION=0.0.1", ("test_dockerfile.py", "version_on_the_label")),
    Fault("*\n!LICENSE", "!LICENSE", ("test_dockerfile.py", "only_named_files"), ".dockerignore"),
    # built
    Fault("USER 10001:10001", "USER worker", ("test_image.py", "numeric_user")),
    Fault("USER 10001:10001\n", "", ("test_image.py", "own_user_is_not_root")),
    Fault("COPY --from=build /opt/worker ", "COPY --chown=10001:10001 --from=build /opt/worker ", ("test_image.py", "may_not_change_the_program")),
    Fault("/usr/bin/apt* ", "", ("test_image.py", "could_build_or_fetch")),
    Fault("uninstall --quiet --yes setuptools pip", "uninstall --quiet --yes setuptools", ("test_image.py", "can_install_others")),
    Fault("-exec strip --strip-unneeded {} +", "-exec true {} +", ("test_image.py", "not_larger")),
    Fault("-m compileall -q --invalidation-mode unchecked-hash /opt/worker/lib", "-c pass", ("test_image.py", "compiled_already")),
    Fault('CMD ["run"]', 'CMD ["--version"]', ("test_image.py", "without_arguments")),
    Fault('org.opencontainers.image.revision="${REVISION}"', 'org.opencontainers.image.revision="none"', ("test_image.py", "labels")),
    Fault("os.environ.get('WORKER_SERVER__PORT', '9000')", "'9000'", ("test_pod.py", "own_check_is_green")),
    Fault('["tini", "--", "moderation-worker"]', '["moderation-worker"]', ("test_pod.py", "first_moment")),
)  # fmt: skip
"""Applied one at a time."""


@pytest.mark.usefixtures("hadolint", "image")  # of a built image, the faults share most layers
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.new.strip()[:60] or "gone")
def test_a_fault_turns_the_tests_red(fault: Fault, engine: Engine, tmp_path: Path) -> None:
    for name in CONTEXT:
        shutil.copy(context() / name, tmp_path)
    shutil.copytree(context() / "worker", tmp_path / "worker", ignore=shutil.ignore_patterns("__pycache__"))
    text = (tmp_path / fault.file).read_text()
    assert fault.old in text, "the file has changed: the fault must be written again"
    (tmp_path / fault.file).write_text(text.replace(fault.old, fault.new))
    file, expression = fault.caught_by

    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-x",
            "-p",
            "no:cacheprovider",
            str(HERE / file),
            "-k",
            expression,
        ],
        cwd=REPOSITORY,
        env={**os.environ, "IMAGE_CONTEXT": str(tmp_path), "IMAGE_TAG": TAG},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    engine.forget(TAG)

    assert done.returncode == TESTS_FAILED, done.stdout[-3000:]
    assert " error" not in done.stdout.splitlines()[-1], "it was not built: that is another matter"
