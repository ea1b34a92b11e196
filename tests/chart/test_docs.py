# The chart's README: its table is fresh, every value has a word, and the way to a running release works as far as it can be
# walked here: on the real API server, without a kubelet.

from __future__ import annotations

import os
import re
import secrets
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from helm import make_readme
from tests.chart import chart
from worker import __version__
from worker.settings.core_defaults import CORE

if TYPE_CHECKING:
    from tests.chart.cluster import Cluster


def _readme() -> str:
    return (chart.folder() / "README.md").read_text()


def _quickstart() -> list[str]:
    section = _readme().partition("## From an empty cluster to a running release")[2].partition("\n## ")[0]
    block = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
    assert block
    return block.group(1).strip().replace("\\\n", "").splitlines()


def test_the_table_of_values_is_what_values_yaml_makes() -> None:
    table = make_readme.table((chart.folder() / "values.yaml").read_text())

    assert table in _readme(), "python -m helm.make_readme"


def test_every_value_is_explained() -> None:
    values = make_readme.values((chart.folder() / "values.yaml").read_text())
    above = {value.name.rpartition(".")[0] for value in values}

    unexplained = [value.name for value in values if not value.covered and value.name not in above]

    assert unexplained == []


def test_every_value_that_the_templates_read_is_in_values_yaml() -> None:
    """A value that only a template knows is a value that nobody finds."""
    known = yaml.safe_load((chart.folder() / "values.yaml").read_text())
    named = {
        match
        for path in (chart.folder() / "templates").rglob("*")
        if path.is_file()
        for match in re.findall(r"\.Values\.([A-Za-z_.]+[A-Za-z])", path.read_text())
    }

    assert len(named) >= 40
    for name in named:
        here = known
        for word in name.split("."):
            assert word in here, name
            here = here[word]


def test_every_value_is_read_by_a_template() -> None:
    """A value that nothing reads is a promise that nothing keeps."""
    text = "\n".join(path.read_text() for path in (chart.folder() / "templates").rglob("*") if path.is_file())
    known = yaml.safe_load((chart.folder() / "values.yaml").read_text())

    for name, value in known.items():
        if name == "global":
            continue
        assert f".Values.{name}" in text, name
        if isinstance(value, dict) and name not in {
            "settings",
            "resources",
            "podSecurityContext",
            "securityContext",
        }:
            for below in value:
                assert re.search(rf"\.{below}\b", text) or name == "updateStrategy", f"{name}.{below}"


def test_a_running_release_is_at_most_six_commands_away() -> None:
    assert len(_quickstart()) <= 6


def test_the_commands_of_the_readme_install_the_release(api: Cluster, tmp_path: Path) -> None:
    """All but those that wait for a kubelet are run; what those ask for is there."""
    namespace = f"moderation-{secrets.token_hex(4)}"
    (tmp_path / "KEYFILE").write_text("a-key")
    words = {"REGISTRY": "registry.example.com", "BROKER": "broker", "KEYFILE": str(tmp_path / "KEYFILE")}
    commands = []
    for line in _quickstart():
        text = re.sub(r"\bmoderation\b(?!-)", namespace, line)
        for word, value in words.items():
            text = text.replace(word, value)
        commands.append(shlex.split(text))
    make_namespace, make_secret, install, rollout, test = commands

    for command in (make_namespace, make_secret):
        _kubectl(api, command, namespace)
    chart.helm(*_at_repository(install[1:]), "--no-hooks", **api.environment())

    named = rollout[-1].removeprefix("statefulset/")
    found = api.ask(f"/apis/apps/v1/namespaces/{namespace}/statefulsets/{named}")
    assert found.status == 200
    template = found.body["spec"]["template"]["spec"]
    secret = next(volume for volume in template["volumes"] if volume["name"] == "secrets")["projected"][
        "sources"
    ][0]["secret"]
    stored = api.ask(f"/api/v1/namespaces/{namespace}/secrets/{secret['name']}")
    assert stored.status == 200
    assert secret["items"][0]["key"] in stored.body["data"]
    hooks = chart.helm(
        "get", "hooks", test[test.index("test") + 1], "--namespace", namespace, **api.environment()
    )
    assert "helm.sh/hook: test" in hooks
    assert "helm.sh/hook: pre-install,pre-upgrade" in hooks


def test_the_values_that_the_readme_shows_sign_in_with_iam(tmp_path: Path) -> None:
    block = re.search(r"## Amazon MSK with IAM\n.*?```yaml\n(.*?)```", _readme(), re.DOTALL)
    assert block
    (tmp_path / "values.yaml").write_text(block[1])

    rendered = chart.render({"topics.create": True}, more=["--values", str(tmp_path / "values.yaml")])

    kafka = rendered.settings()["kafka"]
    assert kafka["aws_msk_iam"] == {"region": "eu-central-1"}
    assert kafka["common"]["security_protocol"] == "SASL_SSL"
    roles = {
        item["metadata"]["annotations"]["eks.amazonaws.com/role-arn"]
        for item in rendered.all("ServiceAccount")
    }
    assert len(rendered.all("ServiceAccount")) == 2
    assert len(roles) == 1


def _at_repository(words: list[str]) -> list[str]:
    return [str(chart.folder()) if word == "helm/moderation-worker" else word for word in words]


def _kubectl(api: Cluster, command: list[str], namespace: str) -> None:
    """With kubectl where there is one; else the same request."""
    if shutil.which("kubectl"):
        subprocess.run(
            command,
            env={"PATH": os.environ["PATH"], "HOME": str(api.folder), **api.environment()},
            check=True,
            capture_output=True,
        )
        return
    if command[:3] == ["kubectl", "create", "namespace"]:
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": command[3]}}
        path = "/api/v1/namespaces"
    else:
        file = next(word for word in command if word.startswith("--from-file="))
        key, _, source = file.removeprefix("--from-file=").partition("=")
        name = command[command.index("generic") + 1]
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name},
            "stringData": {key: Path(source).read_text()},
        }
        path = f"/api/v1/namespaces/{namespace}/secrets"
    assert api.ask(path, body).status == 201


@pytest.mark.parametrize("page", ["README.md", "UPGRADING.md", "RUNBOOK.md"])
def test_every_file_and_heading_that_a_page_of_the_chart_links_to_is_there(page: str) -> None:
    for path, _, heading in re.findall(r"\]\(([^)#:]*)(#([^)]+))?\)", (chart.folder() / page).read_text()):
        target = chart.folder() / (path or page)
        assert target.exists(), path
        headings = {
            re.sub(r"[^\w -]", "", line.lstrip("# ")).lower().replace(" ", "-")
            for line in (target.read_text().splitlines() if target.is_file() else [])
            if line.startswith("#")
        }
        assert not heading or heading in headings, heading


def test_the_page_on_upgrades_names_only_values_that_exist_and_ends_at_this_version() -> None:
    text = (chart.folder() / "UPGRADING.md").read_text()
    named = set(
        re.findall(
            r"`((?:settings|networkPolicy|resources|topics|alerts|serviceAccount|image)\.[A-Za-z_.]+)", text
        )
    )

    assert len(named) >= 8
    for name in named - {"resources.limits.memory"}:  # it has no default on purpose
        here: object = chart_defaults()
        for word in name.split("."):
            assert isinstance(here, dict)
            assert word in here, name
            here = here[word]
    versions = re.findall(r"^## (\d+\.\d+\.\d+)$", text, re.MULTILINE)
    assert versions[0] == __version__


def test_the_numbers_of_the_readme_are_those_of_the_files() -> None:
    alerts = yaml.safe_load((chart.folder() / "files" / "alerts.yaml").read_text())["groups"][0]["rules"]
    text = _readme()

    assert f"PrometheusRule ({len(alerts)} alerts)" in text
    assert (
        f"moderation-worker:{yaml.safe_load((chart.folder() / 'Chart.yaml').read_text())['appVersion']}"
        in text
    )
    session = chart_defaults()["settings"]["kafka"]["consumer"]["session_timeout_ms"]
    assert f"sets to {session // 1000} seconds" in text
    assert f"at most the lowest of `settings.limits` ({CORE.default_calls_per_second})" in text


def chart_defaults() -> chart.Object:
    """The chart's values.yaml."""
    return dict(yaml.safe_load((chart.folder() / "values.yaml").read_text()))
