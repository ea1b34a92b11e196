# The workflow for public runners: valid, pinned, without rights that it does not need; and the release that it tries in kind.

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.chart import chart
from tests.release import artifacts

if TYPE_CHECKING:
    from tests.chart.cluster import Cluster

WORKFLOWS = sorted((chart.REPOSITORY / ".github" / "workflows").glob("*.yaml"))
KIND = chart.REPOSITORY / "tests" / "kind"


def _steps() -> list[dict[str, Any]]:
    return [
        step
        for path in WORKFLOWS
        for job in yaml.safe_load(path.read_text())["jobs"].values()
        for step in job["steps"]
    ]


def test_actionlint_finds_no_fault(actionlint: Path) -> None:
    done = subprocess.run([actionlint, *WORKFLOWS], capture_output=True, text=True, check=False)

    assert WORKFLOWS
    assert done.returncode == 0, done.stdout


def test_every_action_is_pinned_to_a_commit_and_says_its_version() -> None:
    """A tag can be moved to other code; a commit cannot."""
    lines = [line for path in WORKFLOWS for line in path.read_text().splitlines() if "uses:" in line]

    assert lines
    for line in lines:
        assert re.search(r"uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line


def test_a_workflow_may_only_read_but_where_it_publishes_and_keeps_no_credentials() -> None:
    """Each right beyond reading is named here, so that another one is seen."""
    beyond: dict[str, dict[str, str]] = {}
    for path in WORKFLOWS:
        workflow = yaml.safe_load(path.read_text())
        assert workflow["permissions"] == {"contents": "read"}
        for name, job in workflow["jobs"].items():
            assert "timeout-minutes" in job, name
            if more := {
                key: value
                for key, value in job.get("permissions", {}).items()
                if (key, value) != ("contents", "read")
            }:
                beyond[f"{path.stem} {name}"] = more

    assert beyond == {
        "release plan": {"actions": "read"},  # whether ci was green
        "release image": {"packages": "write"},
        "release publish": {"packages": "write", "id-token": "write"},  # signs without a key
        "release pypi": {"id-token": "write"},  # publishes without a password
        "release release": {"contents": "write"},
    }
    for step in _steps():
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_every_target_that_it_makes_exists_and_all_suites_are_run() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (chart.REPOSITORY / "Makefile").read_text(), re.MULTILINE))

    made = {
        target
        for step in _steps()
        for words in re.findall(r"\bmake ([a-z -]+)", step.get("run", ""))
        for target in words.split()
    }

    assert made <= targets
    assert {"lint", "type", "test", "chart-test", "image-test", "page-test", "install-test"} <= made


def _release() -> dict[str, Any]:
    return dict(
        yaml.safe_load((chart.REPOSITORY / ".github" / "workflows" / "release.yaml").read_text())["jobs"]
    )


def _commands(job: dict[str, Any]) -> str:
    return "\n".join(step.get("run", "") for step in job["steps"])


def test_nothing_is_tagged_or_published_before_both_architectures_run_and_are_scanned() -> None:
    jobs = _release()

    assert {row["arch"] for row in jobs["image"]["strategy"]["matrix"]["include"]} == {"amd64", "arm64"}
    for done in ("push-by-digest=true", "--sbom=true", "--provenance=mode=max", "--version", "osv-scanner"):
        assert done in _commands(jobs["image"])
    assert "--tag" not in _commands(jobs["image"])
    assert set(jobs["publish"]["needs"]) == {"plan", "image"}
    assert _commands(jobs["publish"]).index('cosign" sign') > _commands(jobs["publish"]).index(
        "imagetools create --tag"
    )
    assert _commands(jobs["publish"]).count('cosign" sign --yes') == 2, "the image and the chart"
    assert jobs["pypi"]["needs"] == "publish"
    assert set(jobs["release"]["needs"]) == {"publish", "pypi"}


def test_a_release_is_made_by_the_program_that_release_check_tries() -> None:
    commands = "\n".join(map(_commands, _release().values()))

    made = re.findall(r"-m tests\.release\.artifacts (\w+)", commands)

    assert sorted(made) == ["chart", "check", "notes", "python"]
    assert set(re.findall(r'case \["(\w+)"', Path(artifacts.__file__).read_text())) == set(made)


def test_what_a_release_fetches_is_pinned() -> None:
    """Go asks its own record of checksums for a version that was seen before; pip has the hashes."""
    workflow = yaml.safe_load((chart.REPOSITORY / ".github" / "workflows" / "release.yaml").read_text())
    commands = "\n".join(map(_commands, workflow["jobs"].values()))
    fetched = re.findall(r'go install "\$(\w+)"', commands)

    assert sorted(fetched) == ["COSIGN", "SCANNER"]
    assert all(re.search(r"@v\d+\.\d+\.\d+$", workflow["env"][name]) for name in fetched)
    assert all("--require-hashes" in line for line in commands.splitlines() if "pip install" in line)
    assert not re.search(r"curl|wget", commands)


def test_the_script_for_kind_says_only_what_its_kafka_knows() -> None:
    """kafka-console-producer of 4.1 knows --property alone; 4.2 calls it --reader-property, and takes both until 5.0."""
    (major, minor), *_ = (
        tuple(map(int, found))
        for found in re.findall(r"apache/kafka:(\d+)\.(\d+)", (KIND / "kafka.yaml").read_text())
    )

    assert (major, minor) < (5, 0)
    assert "--property parse.key=true" in (KIND / "run").read_text()
    assert "--reader-property" not in (KIND / "run").read_text()


def test_the_script_for_kind_is_valid_and_names_files_that_exist() -> None:
    script = (KIND / "run").read_text()

    assert subprocess.run(["bash", "-n", str(KIND / "run")], check=False).returncode == 0
    for path in re.findall(r"\b(?:tests/kind|helm)/[\w./-]+", script):
        assert (chart.REPOSITORY / path).exists(), path


@pytest.mark.usefixtures("helm")
def test_the_server_admits_what_is_tried_in_kind(api: Cluster) -> None:
    """The same objects, the same PodSecurity."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kind", "labels": labels}}
    assert api.ask("/api/v1/namespaces", made).status in {201, 409}
    where = ["--namespace", "kind", "--values", str(KIND / "values.yaml")]
    rendered = [*yaml.safe_load_all(chart.helm("template", "trust", str(chart.folder()), *where))]
    kafka = [*yaml.safe_load_all((KIND / "kafka.yaml").read_text())]

    pods = [
        item["spec"]["template"]
        for item in (*rendered, *kafka)
        if item and item["kind"] in {"StatefulSet", "Job"}
    ]

    assert len(pods) == 3
    for pod in pods:
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "judged"}, "spec": pod["spec"]}
        answer = api.ask("/api/v1/namespaces/kind/pods?dryRun=All&fieldValidation=Strict", body)
        assert answer.status == 201, answer.reason
