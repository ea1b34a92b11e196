# The workflow for public runners: valid, pinned, without rights that it does not need; and the release that it tries in kind.

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.chart import chart

if TYPE_CHECKING:
    from pathlib import Path

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
    """
    A tag can be moved to other code; a commit cannot.
    """
    lines = [line for path in WORKFLOWS for line in path.read_text().splitlines() if "uses:" in line]

    assert lines
    for line in lines:
        assert re.search(r"uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line


def test_the_workflow_may_only_read_and_keeps_no_credentials() -> None:
    for path in WORKFLOWS:
        workflow = yaml.safe_load(path.read_text())
        assert workflow["permissions"] == {"contents": "read"}
        assert all("permissions" not in job and "timeout-minutes" in job for job in workflow["jobs"].values())
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
    assert {"check", "test", "chart-test", "image-test"} <= made


def test_the_script_for_kind_is_valid_and_names_files_that_exist() -> None:
    script = (KIND / "run").read_text()

    assert subprocess.run(["bash", "-n", str(KIND / "run")], check=False).returncode == 0
    for path in re.findall(r"\b(?:tests/kind|helm)/[\w./-]+", script):
        assert (chart.REPOSITORY / path).exists(), path


@pytest.mark.usefixtures("helm")
def test_the_server_admits_what_is_tried_in_kind(api: Cluster) -> None:
    """
    The same objects, the same PodSecurity.
    """
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
