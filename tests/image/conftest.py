# What the image tests share: the image, built once. Tools that are missing skip a test here and fail it under CI=true.

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.chart.missing import give_up
from tests.chart.toolchain import MissingError
from tests.image import toolchain
from tests.image.containers import IMAGE, Engine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def hadolint() -> Path:
    """The program hadolint."""
    try:
        return toolchain.program("hadolint")
    except MissingError as missing:
        give_up(missing)


@pytest.fixture(scope="session")
def sbom_maker() -> Path:
    """The program cyclonedx-py."""
    try:
        return toolchain.program("cyclonedx-py")
    except MissingError as missing:
        give_up(missing)


@pytest.fixture(scope="session")
def engine() -> Engine:
    """Buildah and podman, with a base to build on."""
    try:
        for name in ("buildah", "podman", "runc"):
            toolchain.program(name)
        storage = toolchain.storage()
        toolchain.demand_base()
    except MissingError as missing:
        give_up(missing)
    return Engine(tuple(storage))


@pytest.fixture(scope="session")
def image(engine: Engine) -> Iterator[str]:
    """The image under test."""
    tag = os.environ.get("IMAGE_TAG", IMAGE)
    engine.build(tag=tag)
    yield tag
    if tag == IMAGE:
        engine._buildah("rmi", "--prune")  # what earlier builds left
