# The image built twice from the same sources, with nothing kept from the first time: the same files, except for their times.

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.image.containers import REPOSITORY
from tests.project.locks import PROJECT
from tests.release import roots
from worker import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from tests.image.containers import Engine

TAGS: Final = ("localhost/moderation-worker:once", "localhost/moderation-worker:twice")

pytestmark = pytest.mark.timeout(900)


def test_the_image_built_twice_is_the_same_but_for_times(engine: Engine, tmp_path: Path) -> None:
    """Compiled Python too, which holds the times of its sources unless it is made to hold their hashes."""
    found = []
    for tag in TAGS:
        engine.build(tag=tag, folder=REPOSITORY, fresh=True)
        found.append(roots.files(engine.export(tag, tmp_path / "root.tar")))
        labels = engine.inspect(tag)["Labels"]
        engine.forget(tag)

    once, twice = found
    assert len(once) > 3_000
    assert sum(name.endswith(".pyc") for name in once) > 500
    assert roots.differing(once, twice) == set()
    described = {
        name.removeprefix("org.opencontainers.image.")
        for name in labels
        if name.startswith("org.opencontainers.")
    }
    assert described == {
        "title", "description", "authors", "vendor", "licenses", "url", "source", "documentation", "version", "revision", "created", "base.name",
    }  # fmt: skip
    assert labels["org.opencontainers.image.source"] == PROJECT["project"]["urls"]["Source"]
    assert labels["org.opencontainers.image.version"] == __version__
    assert all(labels.values())


def test_an_image_with_the_lock_of_iam_signs_in_to_amazon_msk(engine: Engine) -> None:
    """The one that is released has no botocore, and says how to get it."""
    tag = "localhost/moderation-worker:msk-iam"
    settings = (
        "--env=WORKER_KAFKA__BOOTSTRAP_SERVERS=broker:9098",
        "--env=WORKER_KAFKA__COMMON__SECURITY_PROTOCOL=SASL_SSL",
        "--env=WORKER_KAFKA__AWS_MSK_IAM__REGION=eu-central-1",
        "--env=WORKER_TENCENT__APPS={}",
    )
    engine.build(tag=tag, folder=REPOSITORY, lock="requirements-msk-iam.txt")
    engine.build(tag=TAGS[0], folder=REPOSITORY)

    with_it, without = (engine.run("check", options=settings, image=image) for image in (tag, TAGS[0]))

    for each in (tag, TAGS[0]):
        engine.forget(each)
    assert "botocore" not in with_it.out + with_it.err
    assert "tencent.apps" in with_it.out + with_it.err, "the settings were read: only the apps are missing"
    assert "moderation-worker[msk-iam]" in without.out + without.err
    assert (with_it.code, without.code) == (2, 2)
