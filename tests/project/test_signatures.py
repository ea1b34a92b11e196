# What SECURITY.md says of signatures is what the workflow `release` makes: a check that asks for another name would always fail.

from __future__ import annotations

import re
from urllib.parse import urlsplit

import yaml

from tests.project.locks import PROJECT, ROOT
from worker import __version__

SOURCE = PROJECT["project"]["urls"]["Source"]
WORKFLOW = ".github/workflows/release.yaml"


def test_the_names_that_a_signature_is_checked_for_are_those_of_the_release() -> None:
    page = (ROOT / "SECURITY.md").read_text()
    workflow = yaml.safe_load((ROOT / WORKFLOW).read_text())
    image = f"{workflow['env']['REGISTRY']}/{urlsplit(SOURCE).path.strip('/')}"

    assert workflow["env"]["IMAGE"] == "${{ github.repository }}"
    chart = f"{image}/charts/moderation-worker"
    assert re.findall(r"cosign verify (\S+)", page) == [f"{image}:{__version__}", f"{chart}:{__version__}"]
    assert (
        re.findall(r"--certificate-identity (\S+)", page)
        == [f"{SOURCE}/{WORKFLOW}@refs/tags/v{__version__}"] * 2
    )
    for path in ("SECURITY.md", "helm/moderation-worker/README.md"):
        assert f"{image}/charts/moderation-worker`" in (ROOT / path).read_text()


def test_all_that_is_signed_is_signed_by_its_digest_in_a_job_that_may() -> None:
    """A tag could lead elsewhere between the push and the signature."""
    jobs = yaml.safe_load((ROOT / WORKFLOW).read_text())["jobs"]
    signing = {
        name: [line for step in job["steps"] for line in step.get("run", "").splitlines() if " sign " in line]
        for name, job in jobs.items()
    }

    assert {name for name, lines in signing.items() if lines} == {"publish"}
    assert len(signing["publish"]) == 2
    assert all("@$digest" in line for line in signing["publish"])
    assert jobs["publish"]["permissions"]["id-token"] == "write"
