# The runbook, read as the one who is called would: what it names exists, and its commands run.

from __future__ import annotations

import http.server
import json
import re
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.chart import chart, metric_names
from worker.runtime.log_events import EVENTS
from worker.settings.setting_rows import table_of_rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.chart.cluster import Cluster


def _text() -> str:
    return (chart.folder() / "RUNBOOK.md").read_text()


def _commands() -> list[str]:
    return [
        line for block in re.findall(r"```sh\n(.*?)```", _text(), re.DOTALL) for line in block.splitlines()
    ]


def test_it_names_only_metrics_that_exist() -> None:
    named = set(re.findall(r"\bmoderation_worker_[a-z_]+", _text()))

    assert len(named) >= 10
    assert named <= set(metric_names.exposed())


def test_it_names_only_log_events_that_exist() -> None:
    rooms = {name.partition(".")[0] for name in EVENTS} - {"kafka"}
    named = set(re.findall(rf"\b(?:{'|'.join(sorted(rooms))})\.[a-z]+_?[a-z_]*\b", " ".join(_commands())))
    named.discard("app.kubernetes")  # a label's beginning
    for group in re.findall(r"kafka\\\.\(([a-z_|]+)\)", _text()):
        named |= {f"kafka.{name}" for name in group.split("|")}

    assert len(named) >= 8
    assert named <= EVENTS.keys()


def test_it_names_only_values_and_settings_that_exist() -> None:
    values = yaml.safe_load((chart.folder() / "values.yaml").read_text())
    named = set(re.findall(r"`(settings\.[a-z_.]+[a-z]|kafka\.[a-z_]+)`", _text()))
    known = {f"settings.{'.'.join(path)}" for path in table_of_rows()} | {
        ".".join(path) for path in table_of_rows()
    }

    assert len(named) >= 5
    assert named - EVENTS.keys() <= known
    assert "metricsFrom" in values["networkPolicy"]


@pytest.mark.parametrize("command", _commands(), ids=range(len(_commands())))
def test_every_command_is_valid_shell(command: str) -> None:
    done = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


class _Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(503)
        self.end_headers()
        self.wfile.write(f'{{"asked": "{self.path}"}}'.encode())

    def log_message(self, *_: object) -> None:
        """Silent."""


@pytest.fixture
def server() -> Iterator[int]:
    """A worker that is not ready; its port."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answers) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made.server_port
        made.shutdown()
        thread.join()


def _asked(line: str, port: int, folder: Path) -> subprocess.CompletedProcess[str]:
    """What `ask` prints of a release with three pods, of which the second has no container to run in."""
    _program(
        folder / "kubectl",
        f"""case "$*" in
*"get pods -l app.kubernetes.io/instance=r,app.kubernetes.io/component=worker -o name") printf 'pod/n-0\\npod/n-1\\npod/n-10\\n';;
*" exec n-1 "*) echo "container not found" >&2; exit 1;;
*" exec n-2 "*) echo 'Error from server (NotFound): pods "n-2" not found' >&2; exit 1;;
*) while [ "$1" != -- ]; do shift; done; shift 2; exec {sys.executable} "$@";;
esac""",
    )
    ask = next(line for line in _commands() if line.startswith("ask()"))
    return subprocess.run(
        ["bash", "-c", f"{ask}\n{line}"],
        env={"PATH": f"{folder}:/usr/bin:/bin", "NS": "m", "NAME": "n", "RELEASE": "r", "PORT": str(port)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_ask_shows_what_each_pod_says_and_which_one_says_it(server: int, tmp_path: Path) -> None:
    """
    The pod that an alert is about need not be the first. And /readyz answers 503 with the reason: a tool that swallows the body
    would hide the one line that matters.
    """
    done = _asked("ask /readyz", server, tmp_path)

    assert done.stdout == 'n-0 {"asked": "/readyz"}\nn-10 {"asked": "/readyz"}\n'
    assert "container not found" in done.stderr


def test_ask_asks_one_pod_that_is_named(server: int, tmp_path: Path) -> None:
    assert _asked("ask /metrics n-10", server, tmp_path).stdout == 'n-10 {"asked": "/metrics"}\n'


def test_ask_says_that_a_pod_of_that_name_is_not_there(server: int, tmp_path: Path) -> None:
    """Else a mistyped name would look like an empty answer."""
    done = _asked("ask /metrics n-2", server, tmp_path)

    assert not done.stdout
    assert 'pods "n-2" not found' in done.stderr


def test_no_first_command_of_an_alert_that_names_its_pod_looks_at_the_first_pod_alone() -> None:
    alerts = yaml.safe_load((chart.folder() / "files" / "alerts.yaml").read_text())["groups"][0]["rules"]
    of_pods = [rule["alert"] for rule in alerts if "$labels.pod" in json.dumps(rule["annotations"])]

    assert len(of_pods) >= 4
    for alert in of_pods:
        first = re.search(rf"^## {alert}\n.*?```sh\n(.*?)```", _text(), re.DOTALL | re.MULTILINE)
        assert first
        assert "$NAME-0" not in first[1], alert


@pytest.mark.usefixtures("helm")
@pytest.mark.parametrize("group", ["", "ours", "123", "a: b"])
def test_the_group_is_that_of_the_release_as_it_runs(group: str, tmp_path: Path) -> None:
    """One that was installed before the group followed from its name has another."""
    rendered = chart.render({"settings.kafka.group_id": group})
    (tmp_path / "settings").write_text(rendered.one("ConfigMap")["data"]["worker.yaml"])
    _program(
        tmp_path / "kubectl",
        f"""case "$*" in *"{{.data.worker\\.yaml}}") cat "{tmp_path / "settings"}";; esac""",
    )
    export = next(line for line in _commands() if line.startswith("export GROUP"))

    done = subprocess.run(
        ["bash", "-c", f'{export}\necho "$GROUP"'],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "NS": "m", "NAME": "n"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.strip() == rendered.settings()["kafka"]["group_id"]


@pytest.mark.usefixtures("helm")
def test_every_label_that_it_selects_by_finds_a_release_whose_name_is_overridden() -> None:
    selected = set(re.findall(r"app[.]kubernetes[.]io/([a-z]+)=", " ".join(_commands())))
    values = {"nameOverride": "moderator", "fullnameOverride": "blue"}
    here, plain = (chart.render(each).one("StatefulSet")["metadata"]["labels"] for each in (values, {}))

    assert selected == {"instance", "component"}
    assert {here[f"app.kubernetes.io/{name}"] for name in selected} == {
        plain[f"app.kubernetes.io/{name}"] for name in selected
    }


def test_offsets_are_reset_of_one_partition_where_the_others_are_well() -> None:
    (reset,) = re.findall(r"`kafka-consumer-groups[.]sh [^`]*--to-earliest[^`]*`", _text())

    assert "--topic moderation.commands:PARTITION " in " ".join(reset.split())


LOGGED = """\
[pod/n-0/worker] {"time":"2027-01-15T03:00:02Z","level":"info","event":"kafka.accepted","kind":"topic_missing"}
[pod/n-0/worker] {"time":"2027-01-15T03:00:03Z","level":"info","event":"batch.answered","error_code":0}
[pod/n-1/worker] {"time":"2027-01-15T03:00:01Z","level":"error","event":"kafka.refused","kind":"topic_missing"}
"""
FOR_A_PERSON = """\
[pod/n-0/worker] 2027-01-15T03:00:02Z [warning  ] loop.stalled     seconds=2
[pod/n-0/worker] 2027-01-15T03:00:03Z [info     ] batch.answered   error_code=0
[pod/n-1/worker] 2027-01-15T03:00:01Z [error    ] app.halted       app=main
"""


@pytest.mark.parametrize(
    ("log", "asked", "since", "shown"),
    [
        (LOGGED, "events", "2h", [2]),
        (LOGGED, r"events 'kafka\.(refused|accepted)' 24h", "24h", [2, 0]),
        (FOR_A_PERSON, "events", "2h", [2, 0]),
        (FOR_A_PERSON, "events batch.answered", "2h", [1]),
    ],
)
def test_events_shows_what_is_asked_for_in_either_format_by_time(
    log: str, asked: str, since: str, shown: list[int], tmp_path: Path
) -> None:
    """And takes all lines of the span, not some hundred before it looks."""
    (tmp_path / "log").write_text(log)
    _program(
        tmp_path / "kubectl",
        f'case "$*" in *" --since={since} --tail=-1"*) cat "{tmp_path / "log"}";; *) exit 1;; esac',
    )

    done = _with_helpers(asked, tmp_path)

    assert done.stdout.splitlines() == [log.splitlines()[number] for number in shown]


@pytest.mark.usefixtures("helm")
@pytest.mark.parametrize("use", chart.uses(), ids=lambda path: path.name)
def test_a_pod_apart_has_what_a_worker_has_and_memory_of_its_own(use: Path, tmp_path: Path) -> None:
    """Whatever gives it settings and rights; but it runs nothing, nobody probes it, and no object takes it for a worker."""
    rendered = chart.render(base=use.name.removesuffix("-values.yaml"))
    pod = _pod_apart(rendered, tmp_path)
    (container,) = (each for each in pod["spec"]["containers"] if each["name"] == "worker")
    theirs = rendered.container()

    for name in ("image", "env", "envFrom", "volumeMounts", "securityContext"):
        assert container.get(name) == theirs.get(name), name
    for name in ("volumes", "serviceAccountName", "securityContext", "imagePullSecrets"):
        assert pod["spec"].get(name) == rendered.pod().get(name), name
    assert (
        not {"args", "ports", "lifecycle", "livenessProbe", "readinessProbe", "startupProbe"}
        & container.keys()
    )
    assert container["resources"]["limits"]["memory"] == container["resources"]["requests"]["memory"] == "2Gi"
    assert pod["spec"]["restartPolicy"] == "Never"
    labels = pod["metadata"]["labels"]
    selected = {
        item["kind"]: labels.items() >= _selector(item).items()
        for item in rendered.objects
        if item["kind"] in {"StatefulSet", "PodDisruptionBudget", "NetworkPolicy"}
        and not item["metadata"]["name"].endswith("-topics")
    }
    assert selected.pop("NetworkPolicy", True)
    assert not any(selected.values())


def test_a_strict_namespace_takes_a_pod_apart(api: Cluster, tmp_path: Path) -> None:
    namespace = "apart"
    body = {
        "metadata": {"name": namespace, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    }
    api.ask("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", **body})

    made = api.ask(f"/api/v1/namespaces/{namespace}/pods?dryRun=All", _pod_apart(chart.render(), tmp_path))

    assert made.status == 201, made.body


def _selector(item: chart.Object) -> dict[str, str]:
    spec = item["spec"]
    found: dict[str, str] = spec.get("selector", spec.get("podSelector"))["matchLabels"]
    return found


def _pod_apart(rendered: chart.Rendered, folder: Path) -> dict[str, Any]:
    """What `start_apart 2Gi` asks the cluster for."""
    (folder / "set").write_text(json.dumps(rendered.one("StatefulSet")))
    _program(
        folder / "kubectl",
        f'case "$*" in *"get statefulset"*) cat "{folder / "set"}";; *create*) cat > "{folder / "made"}";; esac',
    )
    (folder / "python3").symlink_to(sys.executable)
    assert _with_helpers("start_apart 2Gi", folder).returncode == 0
    made: dict[str, Any] = json.loads((folder / "made").read_text())
    return made


def _program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def _with_helpers(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    helpers = [line for line in _commands() if line.startswith(("events()", "start_apart()"))]
    return subprocess.run(
        ["bash", "-c", "\n".join([*helpers, line])],
        env={"PATH": f"{folder}:/usr/bin:/bin", "NS": "m", "NAME": "n", "RELEASE": "r"},
        capture_output=True,
        text=True,
        check=False,
    )
