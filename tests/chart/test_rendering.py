# Every use that the chart ships renders, on the oldest and the newest Kubernetes that it claims, and lints without a warning.

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.chart import chart, toolchain
from tests.project.locks import PROJECT
from worker import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

USES = [path.name.removesuffix("-values.yaml") for path in chart.uses()]

pytestmark = pytest.mark.usefixtures("helm")


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("kubernetes", [toolchain.OLDEST_KUBERNETES, toolchain.NEWEST_KUBERNETES])
def test_every_use_renders_on_the_oldest_and_the_newest_kubernetes(use: str, kubernetes: str) -> None:
    rendered = chart.render(base=use, kubernetes=kubernetes)

    assert rendered.one("StatefulSet")["metadata"]["namespace"] == chart.NAMESPACE


def test_a_kubernetes_older_than_claimed_is_refused() -> None:
    with pytest.raises(chart.RefusedError, match="incompatible with Kubernetes"):
        chart.render(kubernetes="1.26.9")


@pytest.mark.parametrize("use", USES)
def test_helm_lints_every_use_strictly(use: str) -> None:
    printed = chart.helm("lint", "--strict", str(chart.folder()), "--values", str(chart.use(use)))

    assert "[WARNING]" not in printed
    assert "[ERROR]" not in printed


def test_the_chart_and_the_program_have_one_version() -> None:
    about = yaml.safe_load((chart.folder() / "Chart.yaml").read_text())

    assert about["appVersion"] == __version__
    assert chart.render().container()["image"] == f"moderation-worker:{__version__}"


def test_an_image_digest_wins_over_its_tag() -> None:
    digest = f"sha256:{'a' * 64}"

    rendered = chart.render({"image.digest": digest, "image.tag": "1.2.3"})

    assert rendered.container()["image"] == f"moderation-worker@{digest}"


@pytest.mark.parametrize(
    ("values", "image"),
    [
        ({"image.registry": "registry.example.com"}, "registry.example.com/moderation-worker:1.2.3"),
        ({"image.registry": "registry.example.com:5000/mirror/"}, "registry.example.com:5000/mirror/moderation-worker:1.2.3"),
        ({"image.registry": "one.example.com", "global.imageRegistry": "other.example.com"}, "other.example.com/moderation-worker:1.2.3"),
        ({"global.imageRegistry": "other.example.com", "image.digest": f"sha256:{'a' * 64}"}, f"other.example.com/moderation-worker@sha256:{'a' * 64}"),
        ({"image.repository": "registry.example.com/moderation-worker"}, "registry.example.com/moderation-worker:1.2.3"),
    ],
)  # fmt: skip
def test_an_image_comes_from_the_registry_that_is_named_and_a_parents_wins(
    values: dict[str, str], image: str
) -> None:
    """In every pod: one that came from elsewhere would not start in a cluster that allows one registry."""
    rendered = chart.render({"image.tag": "1.2.3", "topics.create": True, **values})

    specs = [*rendered.pod_specs()]
    assert len(specs) == 3
    assert {spec["containers"][0]["image"] for spec in specs} == {image}


@pytest.mark.parametrize("use", USES)
def test_every_object_names_its_release_and_no_name_is_too_long(use: str) -> None:
    """A StatefulSet's pods carry its name and a revision hash of ten in a label of 63."""
    rendered = chart.render(base=use)

    for item in rendered.objects:
        if not item["metadata"]["name"].endswith("-extra"):
            assert item["metadata"]["labels"]["app.kubernetes.io/instance"] == chart.RELEASE
    assert len(rendered.one("StatefulSet")["metadata"]["name"]) <= 52


def test_a_long_release_name_is_cut_to_what_a_stateful_set_can_carry() -> None:
    rendered = chart.render({"fullnameOverride": "", "nameOverride": "n" * 63})

    assert len(rendered.one("StatefulSet")["metadata"]["name"]) <= 52


@pytest.mark.parametrize("alias", ["a" * 60, "a" * 56, f"{'a' * 44}--b"])
def test_a_name_that_is_cut_ends_in_a_letter_or_digit(alias: str, tmp_path: Path) -> None:
    """As a label and as an object's name must: in a parent chart an alias may be long."""
    metadata = chart.render_below(alias, {}, tmp_path).one("StatefulSet")["metadata"]

    for text in (metadata["name"], *metadata["labels"].values()):
        assert re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", text)


NAMES = {
    "name", "key", "namespace", "serviceName", "serviceAccountName", "priorityClassName", "runtimeClassName",
    "schedulerName", "consumerGroup",
}  # fmt: skip
"""Fields of objects that hold a name."""


def _names(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in {"labels", "matchLabels"}:
                yield from inner.items()
            elif key in NAMES:
                yield key, inner
            yield from _names(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _names(inner)


CALLED: dict[str, dict[str, Any]] = {
    "scram-keda": {
        "kafka.tls.client": {"existingSecret": "1", "certKey": "2", "keyKey": "3", "keyPasswordKey": "4"},
        "kafka.tls.ca": {"existingSecret": "5", "key": "6"},
        "kafka.sasl.existingSecret": "7",
        "kafka.sasl.username": "",
        "kafka.sasl.usernameKey": "8",
        "kafka.sasl.passwordKey": "null",
        "autoscaling.prometheus": {"serverAddress": "http://prometheus:9090", "authenticationRef": "9"},
        "topics.create": True,
    },
    "oauth-proxy": {
        "kafka.oauth": {"existingSecret": "1", "clientSecretKey": "2", "ca": {"existingSecret": "3", "key": "4"}},
        "http.proxyCredentials": {"existingSecret": "5", "key": "6"},
        "http.ca": {"existingSecret": "7", "key": "8"},
        "autoscaling.authenticationRef": "9",
        "serviceAccount.name": "off",
    },
}  # fmt: skip


@pytest.mark.parametrize("use", CALLED)
def test_a_name_that_yaml_takes_for_something_else_stays_a_name(use: str) -> None:
    """A release `no`, a namespace that is a tenant's number, a Secret's key `1`: the API server takes no number and no bool there."""
    values = {
        **CALLED[use],
        "nameOverride": "1",
        "fullnameOverride": "null",
        "apps.main.existingSecret": {"name": "10", "key": "true"},
        "priorityClassName": "11",
        "runtimeClassName": "12",
        "schedulerName": "13",
    }

    rendered = chart.render(values, base=use, release="no", namespace="123")

    found = list(_names(list(rendered.objects)))
    assert len(found) >= 50
    assert [pair for pair in found if not isinstance(pair[1], str)] == []


def test_common_labels_and_annotations_stand_on_every_object() -> None:
    rendered = chart.render(base="everything")

    for item in rendered.objects:
        if not item["metadata"]["name"].endswith("-extra"):
            assert item["metadata"]["labels"]["example.com/team"] == "trust"
            assert item["metadata"]["annotations"]["example.com/contact"] == "trust"


def test_labels_and_annotations_for_pods_stand_on_every_pod() -> None:
    """Those of hooks too: a cluster that asks for an owner's label asks for it on each pod."""
    labels, annotations = zip(
        *(
            (metadata["labels"], metadata["annotations"])
            for metadata in chart.render(base="everything").pod_metadata()
        ),
        strict=True,
    )

    assert len(labels) == 3
    assert {item["example.com/team"] for item in labels} == {"trust"}
    assert {item["example.com/tier"] for item in labels} == {"backend"}
    assert {item["app.kubernetes.io/component"] for item in labels} == {"worker", "topics", "check"}
    assert {item["example.com/owner"] for item in annotations} == {"trust"}


def test_a_label_that_is_given_twice_appears_once_and_the_pods_own_wins() -> None:
    rendered = chart.render(
        {
            "commonLabels": {"team": "one"},
            "podLabels": {"team": "two"},
            "podMonitor.enabled": True,
            "podMonitor.labels": {"team": "three"},
            "networkPolicy.enabled": False,
        }
    )

    assert {metadata["labels"]["team"] for metadata in rendered.pod_metadata()} == {"two"}
    assert rendered.one("PodMonitor")["metadata"]["labels"]["team"] == "three"
    assert rendered.one("Service")["metadata"]["labels"]["team"] == "one"


def test_extra_objects_may_use_templates() -> None:
    rendered = chart.render(base="everything")

    (extra,) = (item for item in rendered.objects if item["metadata"]["name"] == f"{chart.RELEASE}-extra")
    assert extra["data"] == {"topic": "moderation.outcomes"}


def test_nothing_optional_is_installed_by_default() -> None:
    """A cluster without the operators has not their kinds: one such object would fail the install."""
    kinds = {item["kind"] for item in chart.render().objects}

    assert kinds == {
        "ConfigMap",
        "NetworkPolicy",
        "Pod",
        "PodDisruptionBudget",
        "Service",
        "ServiceAccount",
        "StatefulSet",
    }


def test_the_chart_says_who_makes_it_where_and_under_which_licence() -> None:
    """As the program does: a catalogue of charts shows this page, and the links of alerts begin with its home."""
    about = yaml.safe_load((chart.folder() / "Chart.yaml").read_text())
    urls, (author,) = PROJECT["project"]["urls"], PROJECT["project"]["authors"]

    assert about["home"] == urls["Homepage"]
    assert about["sources"] == [urls["Source"]]
    assert about["maintainers"] == [{"name": author["name"], "url": urls["Homepage"]}]
    assert about["icon"].endswith("/main/helm/moderation-worker/icon.svg")
    assert (chart.folder() / "icon.svg").read_text().startswith("<svg ")
    assert about["annotations"]["artifacthub.io/license"] == PROJECT["project"]["license"]
    links = yaml.safe_load(about["annotations"]["artifacthub.io/links"])
    for link in links:
        path = link["url"].removeprefix(f"{about['home']}/blob/main/")
        assert (chart.REPOSITORY / path).exists(), link


def test_the_notes_say_how_to_see_that_it_works() -> None:
    template = (chart.folder() / "templates" / "NOTES.txt").read_text()

    for words in ("rollout status", " test ", "/metrics", "/readyz", "logs"):
        assert words in template


@pytest.mark.parametrize(
    ("values", "warned"),
    [
        (["alerts.enabled=true"], True),
        (["alerts.enabled=true", "networkPolicy.enabled=false"], False),
        (["alerts.enabled=true", "networkPolicy.metricsFrom[0].namespaceSelector.a=null"], False),
        ([], False),
    ],
    ids=str,
)
def test_the_notes_warn_of_alerts_whose_metrics_nobody_may_read(values: list[str], warned: bool) -> None:
    arguments = [
        "--dry-run=client",
        "--values",
        str(chart.use("minimal")),
        *(f"--set={each}" for each in values),
    ]

    printed = chart.helm("install", chart.RELEASE, str(chart.folder()), *arguments, KUBECONFIG="/dev/null")

    assert ("lets nobody read the metrics" in printed) is warned
