# How many pods an eviction may take.

from __future__ import annotations

import pytest

from tests.chart import chart

pytestmark = pytest.mark.usefixtures("helm")


def _budget(**values: object) -> chart.Object:
    rendered = chart.render({f"podDisruptionBudget.{name}": value for name, value in values.items()})
    return dict(rendered.one("PodDisruptionBudget")["spec"])


def test_by_default_one_pod_may_go_at_a_time() -> None:
    assert _budget()["maxUnavailable"] == 1
    assert "minAvailable" not in _budget()


@pytest.mark.parametrize("least", [0, 1, "50%", 1_000_000])
def test_pods_that_must_stay_win_also_when_they_are_none(least: int | str) -> None:
    spec = _budget(minAvailable=least)

    assert spec["minAvailable"] == least
    assert "maxUnavailable" not in spec


def test_none_may_go_when_the_operator_says_so() -> None:
    assert _budget(maxUnavailable=0)["maxUnavailable"] == 0


def test_a_pod_that_is_not_ready_never_blocks_the_drain_of_a_node() -> None:
    assert _budget()["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_the_budget_counts_the_workers() -> None:
    rendered = chart.render()

    selector = rendered.one("PodDisruptionBudget")["spec"]["selector"]

    assert selector == rendered.one("StatefulSet")["spec"]["selector"]


def test_it_can_be_left_out() -> None:
    assert not chart.render({"podDisruptionBudget.enabled": False}).all("PodDisruptionBudget")
