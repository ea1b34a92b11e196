# Alerts: each is valid, has fired in a test, says how bad it is, and leads to a paragraph that says what to do.

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart import chart, metric_names

TESTS = Path(__file__).with_name("alerts_test.yaml")


def _file() -> Path:
    return chart.folder() / "files" / "alerts.yaml"


def _alerts() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(_file().read_text())["groups"] for rule in group["rules"]]


def _promtool(promtool: Path, *arguments: str) -> None:
    done = subprocess.run([promtool, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_finds_no_fault_in_the_alerts(promtool: Path) -> None:
    _promtool(promtool, "check", "rules", "--lint=all", "--lint-fatal", str(_file()))


def test_every_alert_fires_when_it_must_and_only_then(promtool: Path, tmp_path: Path) -> None:
    rules = f"rule_files: [{_file()}]\n"  # as text: YAML 1.1 would read promtool's 0x60 as a number
    (tmp_path / "tests.yaml").write_text(rules + TESTS.read_text())

    _promtool(promtool, "test", "rules", str(tmp_path / "tests.yaml"))


def test_every_alert_has_a_moment_where_it_fires_and_one_where_it_is_silent() -> None:
    moments = [
        moment for case in yaml.safe_load(TESTS.read_text())["tests"] for moment in case["alert_rule_test"]
    ]
    names = {alert["alert"] for alert in _alerts()}

    assert {moment["alertname"] for moment in moments if moment["exp_alerts"]} == names
    assert {moment["alertname"] for moment in moments if not moment["exp_alerts"]} == names


@pytest.mark.parametrize("alert", _alerts(), ids=lambda alert: str(alert["alert"]))
def test_an_alert_names_only_what_the_worker_exposes(alert: dict[str, Any]) -> None:
    assert metric_names.series_in(alert["expr"]), "it asks for no metric of ours"
    assert not list(metric_names.wrong_in(alert["expr"]))


@pytest.mark.parametrize("alert", _alerts(), ids=lambda alert: str(alert["alert"]))
def test_an_alert_is_complete_and_keeps_releases_apart(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
    assert alert["annotations"]["runbook_url"] == f"RUNBOOK.md#{alert['alert'].lower()}"
    grouped = re.findall(r"\bby \(([^)]*)\)", alert["expr"])
    assert grouped or alert["alert"] == "ModerationNoWorker"
    assert all(labels.startswith("namespace, job") for labels in grouped), "two releases would be summed up"


@pytest.mark.parametrize("alert", _alerts(), ids=lambda alert: str(alert["alert"]))
def test_every_alert_has_its_paragraph_in_the_runbook(alert: dict[str, Any]) -> None:
    runbook = (chart.folder() / "RUNBOOK.md").read_text()

    found = re.search(rf"^## {alert['alert']}\n(.*?)(?=^## |\Z)", runbook, re.MULTILINE | re.DOTALL)

    assert found, "no paragraph"
    paragraph = found.group(1)
    for part in ("**Symptom.**", "**Meaning.**", "**First.**", "**Remedy.**", "**Call.**"):
        assert part in paragraph, part
    commands = re.search(r"```sh\n(.*?)```", paragraph, re.DOTALL)
    assert commands
    assert len(commands.group(1).strip().splitlines()) == 3, "three commands, no more and no less"


def test_the_runbook_has_no_paragraph_of_an_alert_that_is_gone() -> None:
    runbook = (chart.folder() / "RUNBOOK.md").read_text()

    headings = set(re.findall(r"^## (Moderation\w+)$", runbook, re.MULTILINE))

    assert headings == {alert["alert"] for alert in _alerts()}


@pytest.mark.usefixtures("helm")
def test_the_rule_object_carries_the_files_alerts_with_the_operators_labels_and_links() -> None:
    rule = chart.render(base="scram-keda").one("PrometheusRule")
    (group,) = rule["spec"]["groups"]

    assert rule["metadata"]["labels"]["release"] == "prometheus"
    assert [item["alert"] for item in group["rules"]] == [item["alert"] for item in _alerts()]
    for made, written in zip(group["rules"], _alerts(), strict=True):
        assert _widened(made["expr"]) == re.sub(r" # \w+$", "", written["expr"], flags=re.MULTILINE)
        assert made.get("for") == written.get("for")
        assert made["labels"] == {
            **written["labels"], "statefulset": chart.FULL_NAME, "team": "trust-and-safety",
        }  # fmt: skip
        base = "https://docs.example.com/moderation-worker/RUNBOOK.md"
        assert made["annotations"]["runbook_url"] == f"{base}#{written['alert'].lower()}"
        assert made["annotations"]["description"] == written["annotations"]["description"]


def _widened(expression: str) -> str:
    """A rendered expression, without what narrows it to the release."""
    pods = f'namespace="{chart.NAMESPACE}", pod=~"{chart.FULL_NAME}-[0-9]+"'
    return expression.replace(f"{{{pods}}}", "").replace(f"{pods}, ", "")


@pytest.mark.usefixtures("helm")
def test_every_series_of_every_rendered_alert_is_of_this_releases_pods() -> None:
    (group,) = chart.render(base="scram-keda").one("PrometheusRule")["spec"]["groups"]

    for rule in group["rules"]:
        for series in metric_names.series_in(rule["expr"]):
            assert series.matchers[:2] == (
                ("namespace", "=", chart.NAMESPACE), ("pod", "=~", f"{chart.FULL_NAME}-[0-9]+"),
            ), rule["alert"]  # fmt: skip


RELEASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "one": ("trust", "moderation", {"alerts.thresholds.oldestCommandSeconds": 300}),
    "beside": ("other", "moderation", {"alerts.disabled": ["ModerationHalted"]}),
    "namesake": ("trust", "staging", {}),
}
"""Three releases that one Prometheus watches: each has another name or namespace, and another opinion of its alerts."""


@pytest.mark.usefixtures("helm")
def test_each_release_is_watched_by_its_own_alerts_alone(promtool: Path, tmp_path: Path) -> None:
    """A release that is gone is missed although others are there; no threshold and no `disabled` is another's."""
    for name, (release, namespace, values) in RELEASES.items():
        rendered = chart.render({"alerts.enabled": True, **values}, release=release, namespace=namespace)
        (group,) = rendered.one("PrometheusRule")["spec"]["groups"]
        rules = [{key: rule[key] for key in rule if key != "annotations"} for rule in group["rules"]]
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({"groups": [{**group, "rules": rules}]}))
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(_seen_by_all(tmp_path)))

    _promtool(promtool, "test", "rules", str(tmp_path / "tests.yaml"))


def _seen_by_all(folder: Path) -> dict[str, Any]:
    def labels(name: str, **more: str) -> dict[str, str]:
        release, namespace, _ = RELEASES[name]
        full = f"{release}-moderation-worker"
        return {"namespace": namespace, "job": f"{namespace}/{full}", "pod": f"{full}-0", **more}

    def series(metric: str, values: str, found: dict[str, str]) -> dict[str, str]:
        matchers = ", ".join(f'{label}="{value}"' for label, value in found.items())
        return {"series": f"{metric}{{{matchers}}}", "values": values}

    def fires(name: str, severity: str, **more: str) -> dict[str, Any]:
        release, namespace, _ = RELEASES[name]
        found = {"namespace": namespace, "statefulset": f"{release}-moderation-worker", "severity": severity}
        return {"exp_labels": {**found, **more}}

    app = {"app": "main", "endpoint": "group_open_http_svc/ban_group_member"}
    slow = {
        name: {key: value for key, value in labels(name, **app).items() if key != "pod"} for name in RELEASES
    }
    given = [series("moderation_worker_build_info", "1x60", labels(name)) for name in ("one", "namesake")]
    for name in RELEASES:
        given.append(series("moderation_worker_oldest_waiting_seconds", "100x60", labels(name, **app)))
        given.append(series("moderation_worker_halted", "1x60", labels(name, **app)))
    expected = {
        "ModerationNoWorker": [fires("beside", "critical")],
        "ModerationOldestCommandTooOld": [
            fires(name, "warning", **slow[name]) for name in ("beside", "namesake")
        ],
        "ModerationHalted": [fires(name, "critical", **slow[name]) for name in ("one", "namesake")],
    }
    moments = [
        {"eval_time": "10m", "alertname": alert, "exp_alerts": alerts} for alert, alerts in expected.items()
    ]
    case = {"interval": "15s", "input_series": given, "alert_rule_test": moments}
    return {
        "rule_files": [str(folder / f"{name}.yaml") for name in RELEASES],
        "evaluation_interval": "15s",
        "tests": [case],
    }


@pytest.mark.usefixtures("helm")
def test_an_alert_can_be_left_out_and_relabelled() -> None:
    rule = chart.render(
        {
            "alerts.enabled": True,
            "alerts.disabled": ["ModerationOrderNotPromised"],
            "alerts.extraLabels": {"severity": "info"},
        }
    ).one("PrometheusRule")
    (group,) = rule["spec"]["groups"]

    assert len(group["rules"]) == len(_alerts()) - 1
    assert {item["labels"]["severity"] for item in group["rules"]} == {"info"}


def _thresholds() -> dict[str, float]:
    found: dict[str, float] = yaml.safe_load((chart.folder() / "values.yaml").read_text())["alerts"][
        "thresholds"
    ]
    return found


@pytest.mark.usefixtures("helm")
def test_the_chart_and_the_file_begin_with_the_same_thresholds() -> None:
    """Whoever reads the file without the chart gets the same alerts; and no value is left that no alert reads."""
    written = re.findall(r"([0-9.]+) # (\w+)$", _file().read_text(), re.MULTILINE)
    values = _thresholds()
    schema = json.loads((chart.folder() / "values.schema.json").read_text())
    known = schema["properties"]["alerts"]["properties"]["thresholds"]

    assert {name: float(number) for number, name in written} == values
    assert known["properties"].keys() == set(known["required"]) == values.keys()


@pytest.mark.usefixtures("helm")
def test_every_threshold_is_in_the_rules_of_the_release() -> None:
    """And not the file's own: YAML takes a comment out of an expression that is no block, and with it the value's name."""
    given = {name: 1200 + number for number, name in enumerate(_thresholds()) if name != "throttledShare"}
    values = {f"alerts.thresholds.{name}": value for name, value in given.items()}
    (group,) = chart.render({"alerts.enabled": True, **values}).one("PrometheusRule")["spec"]["groups"]
    found = {int(number) for rule in group["rules"] for number in re.findall(r"[<>] (\d+)", rule["expr"])}

    assert set(given.values()) <= found


@pytest.mark.usefixtures("helm")
def test_thresholds_and_durations_are_values() -> None:
    rules = {
        rule["alert"]: rule
        for rule in chart.render(base="everything").one("PrometheusRule")["spec"]["groups"][0]["rules"]
    }

    old = rules["ModerationOldestCommandTooOld"]
    assert old["expr"].strip().endswith(") > 300")
    assert old["for"] == "10m"
    assert rules["ModerationQuotaExceeded"]["expr"].strip().endswith("> 0.05")
    assert ") > 15000\n" in rules["ModerationPartitionBlocked"]["expr"]
    assert rules["ModerationPaused"]["expr"].strip().endswith("> 1e+06")
    assert rules["ModerationHalted"]["for"] == "1m"


@pytest.mark.usefixtures("helm")
def test_the_rules_with_other_thresholds_are_valid_too(promtool: Path, tmp_path: Path) -> None:
    made = tmp_path / "rules.yaml"
    made.write_text(
        yaml.safe_dump({"groups": chart.render(base="everything").one("PrometheusRule")["spec"]["groups"]})
    )

    _promtool(promtool, "check", "rules", "--lint=all", "--lint-fatal", str(made))


@pytest.mark.usefixtures("helm")
@pytest.mark.parametrize("alias", ["", "asia"])
def test_without_a_runbook_of_your_own_an_alert_links_to_that_of_its_version(
    alias: str, tmp_path: Path
) -> None:
    about = yaml.safe_load((chart.folder() / "Chart.yaml").read_text())
    rendered = (
        chart.render_below(alias, {"alerts": {"enabled": True}}, tmp_path)
        if alias
        else chart.render(base="everything")
    )

    for rule in rendered.one("PrometheusRule")["spec"]["groups"][0]["rules"]:
        link = f"{about['home']}/blob/v{about['appVersion']}/helm/moderation-worker/RUNBOOK.md#{rule['alert'].lower()}"
        assert rule["annotations"]["runbook_url"] == link
