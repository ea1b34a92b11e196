# Where the chart and the program meet: what the chart writes, the program's own loader reads; what the program needs, the
# chart can set; ports and paths are those of the code.

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, get_args

import httpx
import pytest
import yaml

from helm import make_schema
from tests.chart import chart
from tests.chart.mounts import SECRET, mounted
from worker.runtime import wiring
from worker.runtime.status_server import StatusServer
from worker.settings import Settings, load
from worker.settings.setting_rows import rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

USES = [path.name.removesuffix("-values.yaml") for path in chart.uses()]

pytestmark = pytest.mark.usefixtures("helm")

THE_CHARTS = {
    "kafka": {"instance_id"},  # the pod's name
    "tencent": {"apps"},  # under `apps`, with their Secrets
    "apps": {"secret_key", "secret_key_file"},  # by existingSecret
    "http": {"proxy_credentials_file", "ca_file"},
}
"""What the chart decides itself, so that a value must not."""

NARROWER = {
    ("server", "port"),  # below 1024 needs a capability
    ("tencent", "protected_users"),
}
"""Bounds that the chart draws closer on purpose."""


@pytest.mark.parametrize("use", USES)
def test_the_worker_accepts_the_settings_of_every_use(use: str, tmp_path: Path) -> None:
    """
    Its own loader reads file and environment as in the pod: unknown names, wrong values and contradictions would be refused.
    """
    rendered = chart.render(base=use)
    config, environment = mounted(rendered, tmp_path)

    settings = load(config, environment)

    assert settings.kafka.instance_id == f"{chart.NAMESPACE}.the-pod-name"
    assert settings.server.port == rendered.container()["ports"][0]["containerPort"]
    for app in settings.tencent.apps.values():
        assert app.key() == SECRET


@pytest.mark.parametrize("use", ["scram-keda", "everything"])
def test_the_worker_finds_the_sasl_password_in_its_file_and_the_name_in_its_variable(
    use: str, tmp_path: Path
) -> None:
    config, environment = mounted(chart.render(base=use), tmp_path)

    options = load(config, environment).kafka.options()

    assert options["sasl_plain_password"] == SECRET
    assert options["sasl_plain_username"] == environment["WORKER_KAFKA__COMMON__SASL_PLAIN_USERNAME"]


def test_the_file_that_the_variable_names_is_the_mounted_one() -> None:
    rendered = chart.render()
    env = {item["name"]: item.get("value") for item in rendered.container()["env"]}
    mount = next(m["mountPath"] for m in rendered.container()["volumeMounts"] if m["name"] == "config")

    held = rendered.one("ConfigMap")["data"]

    assert env["WORKER_CONFIG"] == f"{mount}/{next(iter(held))}"


def test_the_chart_changes_none_of_the_workers_defaults_but_those_it_explains(tmp_path: Path) -> None:
    """Two places that default differently would make the reference page a lie."""
    config, _ = mounted(chart.render(), tmp_path)
    least = {
        "kafka": {"bootstrap_servers": ["kafka.kafka.svc:9092"]},
        "tencent": {"apps": yaml.safe_load(config.read_text())["tencent"]["apps"]},
    }
    (tmp_path / "least.yaml").write_text(yaml.safe_dump(least))

    ours = load(config, {}).model_dump(mode="json")
    workers = load(tmp_path / "least.yaml", {}).model_dump(mode="json")

    assert ours["kafka"].pop("consumer") == {"session_timeout_ms": 15000}
    assert workers["kafka"].pop("consumer") == {}
    assert ours["kafka"].pop("group_id") == f"{chart.NAMESPACE}.{chart.FULL_NAME}", "one for each release"
    assert workers["kafka"].pop("group_id") == "moderation-worker"
    assert ours == workers


def _may_be_null() -> list[str]:
    """The settings that may be null, besides those that the chart decides."""
    nullable = [row.name for row in rows() if type(None) in get_args(row.kind)]
    ours = make_schema.THE_CHARTS
    return [name for name in nullable if name not in ours and not name.startswith("tencent.apps.")]


@pytest.mark.parametrize("name", _may_be_null())
def test_a_setting_that_is_null_in_the_values_is_null_to_the_worker(name: str, tmp_path: Path) -> None:
    """Helm takes a null out together with its key where the chart has a default, and the worker would go by its own."""
    config, environment = mounted(chart.render({f"settings.{name}": None}), tmp_path)

    found: Any = load(config, environment)
    for word in name.split("."):
        found = getattr(found, word)

    assert found is None


def test_null_is_tried_for_the_settings_whose_default_is_another() -> None:
    named = {row.name for row in rows() if row.default is not None}

    assert named & set(_may_be_null()) == {
        "kafka.control_topic", "kafka.quota_topic", "retry.give_up_after_seconds",
    }  # fmt: skip


@pytest.mark.parametrize("topic", ["control_topic", "quota_topic"])
@pytest.mark.parametrize("alias", ["", "asia"])
def test_a_topic_that_is_empty_in_the_values_is_none_to_the_worker(
    topic: str, alias: str, tmp_path: Path
) -> None:
    """In those of a parent chart too, where Helm loses a null."""
    values = {"settings": {"kafka": {topic: ""}}}
    rendered = (
        chart.render_below(alias, values, tmp_path)
        if alias
        else chart.render({f"settings.kafka.{topic}": ""})
    )

    config, environment = mounted(rendered, tmp_path)

    assert getattr(load(config, environment).kafka, topic) is None


def test_the_margin_beyond_the_drain_is_what_the_worker_may_take_to_close(tmp_path: Path) -> None:
    """
    After the drain it hands over, closes the consumer and closes the publisher; killed in the middle it would leave a
    transaction open, which holds back every reader.
    """
    config, _ = mounted(chart.render(), tmp_path)
    defaults = yaml.safe_load((chart.folder() / "values.yaml").read_text())

    handover = load(config, {}).kafka.handover_seconds

    closing = handover + wiring.CONSUMER_CLOSE_SECONDS + wiring.PUBLISHER_CLOSE_SECONDS
    assert defaults["terminationMarginSeconds"] >= closing


def _model() -> dict[str, Any]:
    return Settings.model_json_schema()


def _chart_schema() -> dict[str, Any]:
    return dict(json.loads((chart.folder() / "values.schema.json").read_text()))


def _resolved(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    return schema


def _sections() -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Each section as the program and as the chart describe it."""
    model, schema = _model(), _chart_schema()
    settings = schema["properties"]["settings"]["properties"]
    sections = {
        name: (_resolved(part, model)["properties"], settings[name]["properties"])
        for name, part in model["properties"].items()
        if "properties" in _resolved(part, model)
    }
    return {
        **sections,
        "apps": (model["$defs"]["AppSettings"]["properties"], schema["$defs"]["app"]["properties"]),
    }


def test_every_setting_of_the_worker_can_be_set_by_the_chart_and_no_other() -> None:
    model, schema = _model(), _chart_schema()

    assert set(model["properties"]) == set(schema["properties"]["settings"]["properties"])
    for name, (theirs, ours) in _sections().items():
        assert set(theirs) - THE_CHARTS.get(name, set()) == set(ours) - {"existingSecret"}, name


def _limits(part: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """The bounds and choices of a value, from either schema."""
    found: dict[str, Any] = {}
    for branch in [part, *part.get("anyOf", [])]:
        here = _resolved(branch, root)
        for name, synonyms in {
            "from": ("minimum", "ge"),
            "above": ("exclusiveMinimum", "gt"),
            "to": ("maximum", "le"),
            "below": ("exclusiveMaximum", "lt"),
            "choices": ("enum",),
        }.items():
            for synonym in synonyms:
                if synonym in here:
                    found[name] = here[synonym]
    return found


def test_the_chart_draws_the_workers_bounds() -> None:
    model, schema = _model(), _chart_schema()

    compared = 0
    for section, (theirs, ours) in _sections().items():
        for name in theirs.keys() & ours.keys():
            if (section, name) not in NARROWER:
                expected = _limits(theirs[name], model)
                assert _limits(ours[name], schema) == expected, f"{section}.{name}"
                compared += bool(expected)

    assert compared >= 15, "the comparison found almost nothing to compare"


KEYWORDS = {
    "$schema", "$comment", "$defs", "$ref", "title", "type", "enum", "const", "properties", "additionalProperties", "propertyNames",
    "required", "items", "minItems", "maxItems", "uniqueItems", "minLength", "maxLength", "pattern", "minimum", "maximum",
    "exclusiveMinimum", "exclusiveMaximum", "not", "anyOf", "oneOf", "allOf",
}  # fmt: skip
"""Of JSON Schema, those that the chart's schema uses."""


def _schemas(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A schema, and all within it."""
    yield schema
    inner = [each for word in ("properties", "$defs") for each in schema.get(word, {}).values()]
    inner += [each for word in ("anyOf", "oneOf", "allOf") for each in schema.get(word, [])]
    inner += [
        schema[word] for word in ("items", "additionalProperties", "propertyNames", "not") if word in schema
    ]
    for each in inner:
        if isinstance(each, dict):
            yield from _schemas(each)


def test_the_charts_schema_has_no_word_that_json_schema_would_pass_over() -> None:
    found = [*_schemas(_chart_schema())]

    assert len(found) >= 100
    assert {word for schema in found for word in schema} <= KEYWORDS


def test_nothing_stands_beside_a_reference_where_an_older_helm_passes_over_it() -> None:
    """Helm 3.14 reads schemas as draft 7 says: there a $ref is alone, and what is beside it checks nothing."""
    referring = [schema for schema in _schemas(_chart_schema()) if "$ref" in schema]

    assert len(referring) >= 50
    assert [schema for schema in referring if len(schema) > 1] == []


def test_every_probe_and_scrape_is_answered_by_the_workers_own_server() -> None:
    """The server of the code is asked for the paths of the chart."""
    rendered = chart.render(base="scram-keda")
    container = rendered.container()
    paths = [
        container[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")
    ]
    paths += [item["path"] for item in rendered.one("PodMonitor")["spec"]["podMetricsEndpoints"]]

    answered = asyncio.run(_statuses(paths))

    assert answered == dict.fromkeys(paths, 200)


async def _statuses(paths: list[str]) -> dict[str, int]:
    server = StatusServer(
        "127.0.0.1",
        0,
        pulse_age=lambda: 0.0,
        obstacles=list,
        metrics=lambda: (b"", "text/plain; version=0.0.4"),
    )
    port = await server.start()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        found = {path: (await client.get(path)).status_code for path in paths}
    await server.close()
    return found


def test_liveness_asks_only_for_the_loops_pulse_and_readiness_gates_the_rollout() -> None:
    """A restart fixes neither Kafka nor Tencent: what depends on them must never end a pod."""
    container = chart.render().container()

    assert container["startupProbe"]["httpGet"]["path"] == "/livez"
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_probes_name_the_port_that_the_container_opens() -> None:
    container = chart.render({"settings.server.port": 9100}).container()
    opened = {port["name"]: port["containerPort"] for port in container["ports"]}

    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert opened[container[probe]["httpGet"]["port"]] == 9100


def test_two_releases_of_one_namespace_or_name_have_two_groups() -> None:
    """In one group each would get a part of the other's partitions, and send its commands to the other's app."""
    named = {
        chart.render(release=release, namespace=namespace).settings()["kafka"]["group_id"]
        for release in ("trust", "other")
        for namespace in ("moderation", "staging")
    }

    assert len(named) == 4


def test_a_group_that_is_given_is_everywhere_the_group() -> None:
    rendered = chart.render({"settings.kafka.group_id": "ours", "topics.create": True}, base="scram-keda")

    groups = {
        yaml.safe_load(item["data"]["worker.yaml"])["kafka"]["group_id"]
        for item in rendered.all("ConfigMap")
        if "worker.yaml" in item["data"]
    }
    assert groups == {"ours"}
    assert rendered.one("ScaledObject")["spec"]["triggers"][0]["metadata"]["consumerGroup"] == "ours"


def test_an_upgrade_that_cannot_ask_the_cluster_for_its_group_is_refused() -> None:
    """With another group the worker would not find its commits; `helm template` never asks."""
    with pytest.raises(chart.RefusedError, match="the group of the running release cannot be read"):
        chart.render(more=("--is-upgrade",))

    kept = chart.render({"settings.kafka.group_id": "moderation-worker"}, more=("--is-upgrade",))
    assert kept.settings()["kafka"]["group_id"] == "moderation-worker"


def test_the_worker_finds_the_secrets_of_tokens_and_proxy_in_their_files(tmp_path: Path) -> None:
    config, environment = mounted(chart.render(base="oauth-proxy"), tmp_path)

    settings = load(config, environment)

    assert settings.kafka.oauth.client_secret_file is not None
    assert settings.kafka.oauth.client_secret_file.read_text() == f"{SECRET}\n"
    assert settings.http.proxy_credentials_file is not None
    assert SECRET in settings.http.proxy_credentials_file.read_text()
