# How the metrics get to Prometheus with their names and labels unharmed.

from __future__ import annotations

import pytest

from tests.chart import chart, metric_names

pytestmark = pytest.mark.usefixtures("helm")

OPERATORS_LABELS = {"namespace", "pod", "container", "endpoint", "job", "instance", "service"}
"""What the Prometheus Operator puts on every target of a PodMonitor or ServiceMonitor."""


def _endpoint(base: str) -> chart.Object:
    (endpoint,) = chart.render(base=base).one("PodMonitor")["spec"]["podMetricsEndpoints"]
    return dict(endpoint)


def test_the_service_monitor_scrapes_as_the_pod_monitor_does() -> None:
    rendered = chart.render({"podMonitor.enabled": False, "serviceMonitor.enabled": True}, base="scram-keda")

    monitor = rendered.one("ServiceMonitor")

    assert monitor["spec"]["endpoints"] == [_endpoint("scram-keda")]
    assert not rendered.all("PodMonitor")


def test_the_service_monitor_selects_the_service_that_leads_to_the_workers() -> None:
    rendered = chart.render(base="everything")
    monitor, service = rendered.one("ServiceMonitor"), rendered.one("Service")

    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["spec"]["endpoints"][0]["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert service["spec"]["publishNotReadyAddresses"] is True, "a pod that is not ready is scraped too"
    assert monitor["metadata"]["labels"]["release"] == "prometheus"


def test_the_pod_monitor_scrapes_the_workers_own_path_and_port() -> None:
    rendered = chart.render(base="scram-keda")
    endpoint = _endpoint("scram-keda")

    assert endpoint["path"] == "/metrics"
    assert endpoint["port"] in {port["name"] for port in rendered.container()["ports"]}
    assert rendered.one("PodMonitor")["metadata"]["labels"]["release"] == "prometheus"


def test_the_pod_monitor_selects_the_workers() -> None:
    rendered = chart.render(base="scram-keda")

    assert rendered.one("PodMonitor")["spec"]["selector"] == rendered.one("StatefulSet")["spec"]["selector"]


def test_no_label_of_the_worker_is_renamed_by_the_scraping() -> None:
    """The operator's label for the port's name is called `endpoint`, as is one of ours: it would become exported_endpoint."""
    ours = set().union(*metric_names.exposed().values())

    assert ours & OPERATORS_LABELS == {"endpoint"}
    assert _endpoint("scram-keda")["honorLabels"] is True


@pytest.mark.parametrize(
    ("interval", "timeout"),
    [("10s", "10s"), ("1m", "60s"), ("1m30s", "89999ms"), ("1h", "59m"), ("1d", "24h")],
)
def test_a_scrape_may_take_as_long_as_the_time_between_two(interval: str, timeout: str) -> None:
    values = {
        "serviceMonitor.interval": interval,
        "serviceMonitor.scrapeTimeout": timeout,
        "alerts.enabled": False,
    }

    (endpoint,) = chart.render(values, base="everything").one("ServiceMonitor")["spec"]["endpoints"]

    assert (endpoint["interval"], endpoint["scrapeTimeout"]) == (interval, timeout)


def test_relabelings_of_the_operator_are_passed_on() -> None:
    (endpoint,) = chart.render(base="everything").one("ServiceMonitor")["spec"]["endpoints"]

    assert endpoint["relabelings"][0]["targetLabel"] == "cluster"
    assert endpoint["metricRelabelings"][0]["action"] == "drop"
