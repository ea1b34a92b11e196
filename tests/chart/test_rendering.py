# Every use that the chart ships renders, on the oldest and the newest Kubernetes that it claims, and lints without a warning.

from __future__ import annotations

import pytest
import yaml

from tests.chart import chart, toolchain
from worker import __version__

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
    told = chart.helm("lint", "--strict", str(chart.folder()), "--values", str(chart.use(use)))

    assert "[WARNING]" not in told
    assert "[ERROR]" not in told


def test_the_chart_and_the_program_have_one_version() -> None:
    about = yaml.safe_load((chart.folder() / "Chart.yaml").read_text())

    assert about["appVersion"] == __version__
    assert chart.render().container()["image"] == f"moderation-worker:{__version__}"


def test_an_image_digest_wins_over_its_tag() -> None:
    digest = f"sha256:{'a' * 64}"

    rendered = chart.render({"image.digest": digest, "image.tag": "1.2.3"})

    assert rendered.container()["image"] == f"moderation-worker@{digest}"


@pytest.mark.parametrize("use", USES)
def test_every_object_names_its_release_and_no_name_is_too_long(use: str) -> None:
    """
    A StatefulSet's pods carry its name and a revision hash of ten in a label of 63.
    """
    rendered = chart.render(base=use)

    for item in rendered.objects:
        if not item["metadata"]["name"].endswith("-extra"):
            assert item["metadata"]["labels"]["app.kubernetes.io/instance"] == chart.RELEASE
    assert len(rendered.one("StatefulSet")["metadata"]["name"]) <= 52


def test_a_long_release_name_is_cut_to_what_a_stateful_set_can_carry() -> None:
    rendered = chart.render({"fullnameOverride": "", "nameOverride": "n" * 63})

    assert len(rendered.one("StatefulSet")["metadata"]["name"]) <= 52


def test_common_labels_and_annotations_stand_on_every_object() -> None:
    rendered = chart.render(base="everything")

    for item in rendered.objects:
        if not item["metadata"]["name"].endswith("-extra"):
            assert item["metadata"]["labels"]["example.com/team"] == "trust"
            assert item["metadata"]["annotations"]["example.com/contact"] == "trust"


def test_extra_objects_may_use_templates() -> None:
    rendered = chart.render(base="everything")

    (extra,) = (item for item in rendered.objects if item["metadata"]["name"] == f"{chart.RELEASE}-extra")
    assert extra["data"] == {"group": "moderation-worker"}


def test_nothing_optional_is_installed_by_default() -> None:
    """
    A cluster without the operators has not their kinds: one such object would fail the install.
    """
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


def test_the_notes_say_how_to_see_that_it_works() -> None:
    template = (chart.folder() / "templates" / "NOTES.txt").read_text()

    for told in ("rollout status", " test ", "/metrics", "/readyz", "logs"):
        assert told in template
