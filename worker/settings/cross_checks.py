# Settings that contradict each other although each alone is valid: one function for each subject, and all of them run.
#
# Key files are checked here too: they must be readable at start. Not here: kafka-python's own options (kafka_option_checks.py), and
# what must fit the cluster (topics, partitions), which only a connection can show.

from __future__ import annotations

from collections import Counter
from itertools import chain
from typing import TYPE_CHECKING, Final

from worker.domain.contract.actions import ACTIONS, ENDPOINTS
from worker.errors import SettingProblem, SignatureError
from worker.redaction import without_keys
from worker.settings import types
from worker.settings.guard_settings import did_you_mean, guard_problems
from worker.settings.kafka_authentication import secret_file_problems
from worker.settings.kafka_option_checks import option_problems, security_problems
from worker.tls_file_problems import authority_problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from worker.settings.model import Settings
    from worker.settings.tencent_section import AppSettings

SESSION_TIMEOUT_MS: Final = (6_000, 1_800_000)
"""The brokers' default limits (``group.min.session.timeout.ms``, ``group.max.session.timeout.ms``)."""


def contradictions(settings: Settings) -> list[SettingProblem]:
    """Return every contradiction in settings whose single values are all valid."""
    return list(chain.from_iterable(check(settings) for check in _CHECKS))


def _topics(settings: Settings) -> Iterator[SettingProblem]:
    kafka = settings.kafka
    if len(kafka.command_topics) != 1:
        yield SettingProblem(
            "kafka.command_topics",
            "name exactly one topic: a release reads one",
            ", ".join(kafka.command_topics) or None,
        )
    names = [
        *(("kafka.command_topics", topic) for topic in kafka.command_topics[:1]),
        ("kafka.outcome_topic", kafka.outcome_topic),
        ("kafka.dead_letter_topic", kafka.dead_letter_topic),
        ("kafka.control_topic", kafka.control_topic),
        ("kafka.quota_topic", kafka.quota_topic),
    ]
    for index, (name, topic) in enumerate(names):
        for other, same in names[:index]:
            if topic is not None and topic == same:
                yield SettingProblem(name, f"use another topic: {other} is the same", topic)


def _timing(settings: Settings) -> Iterator[SettingProblem]:
    kafka, drain = settings.kafka, settings.drain_seconds
    session, heartbeat, poll = (
        kafka.consumer_seconds(option)
        for option in ("session_timeout_ms", "heartbeat_interval_ms", "max_poll_interval_ms")
    )
    low, high = SESSION_TIMEOUT_MS
    if not low <= session * 1000 <= high:
        yield SettingProblem(
            "kafka.consumer.session_timeout_ms",
            f"give a whole number from {low} to {high}, which brokers demand by default",
            round(session * 1000),
        )
    if drain >= poll:
        yield SettingProblem(
            "drain_seconds",
            f"make it shorter than kafka.consumer.max_poll_interval_ms ({poll:g} s), or Kafka removes the worker from the group in the middle of a drain",
            drain,
        )
    limits = {
        "drain_seconds": drain,
        "the session timeout (kafka.consumer.session_timeout_ms)": session,
        "kafka.consumer.max_poll_interval_ms": poll,
    }
    for name, limit in limits.items():
        if kafka.handover_seconds >= limit:
            yield SettingProblem(
                "kafka.handover_seconds", f"make it shorter than {name}, {limit:g} s", kafka.handover_seconds
            )
    if heartbeat * 3 > session:
        yield SettingProblem(
            "kafka.consumer.heartbeat_interval_ms",
            f"make it at most a third of the session timeout ({session:g} s), or one lost heartbeat ends the membership",
            round(heartbeat * 1000),
        )


def _options(settings: Settings) -> Iterator[SettingProblem]:
    yield from option_problems(settings.kafka)
    yield from security_problems(settings.kafka)


def _apps(settings: Settings) -> Iterator[SettingProblem]:
    tencent = settings.tencent
    if not tencent.apps:
        yield SettingProblem("tencent.apps", "name at least one app")
    if tencent.apps and tencent.default_app is not None and tencent.default_app not in tencent.apps:
        known = ", ".join(tencent.apps)
        yield SettingProblem(
            "tencent.default_app",
            f"is not in tencent.apps: name one of these: {known}",
            tencent.default_app,
        )
    counts = Counter(app.sdk_app_id for app in tencent.apps.values())
    for word, app in tencent.apps.items():
        yield from _app(word, app, is_shared=counts[app.sdk_app_id] > 1)


def _app(word: str, app: AppSettings, *, is_shared: bool) -> Iterator[SettingProblem]:
    name = f"tencent.apps.{word}"
    if not types.is_app_name(word):
        yield SettingProblem(name, "name the app with 1 to 64 of the characters a-z A-Z 0-9 . _ -")
    elif without_keys(word) != word:
        yield SettingProblem(
            name, "choose another name: this looks like a key, and the name is in logs and metrics"
        )
    if is_shared:
        yield SettingProblem(
            f"{name}.sdk_app_id",
            "two apps share it: Tencent counts the quota per SDKAppID, so together they would exceed it",
            app.sdk_app_id,
        )
    if app.secret_key is not None and app.secret_key_file is not None:
        yield SettingProblem(
            f"{name}.secret_key_file",
            "give this or secret_key, not both",
            types.shown_path(app.secret_key_file),
        )
    elif app.secret_key is None and app.secret_key_file is None:
        yield SettingProblem(
            f"{name}.secret_key_file",
            "give this or secret_key, since without a key nothing can be signed",
        )
    elif app.secret_key_file is not None:
        yield from _key_file(f"{name}.secret_key_file", app.key, types.shown_path(app.secret_key_file))
    if (app.region is None) == (app.base_url is None):
        both = app.region is not None
        yield SettingProblem(
            f"{name}.region",
            f"give this or base_url{', not both' if both else ''}",
            app.region and app.region.value,
        )


def _limits(settings: Settings) -> Iterator[SettingProblem]:
    limits = settings.limits
    for endpoint, limit in limits.per_endpoint.items():
        name = f"limits.per_endpoint.{endpoint}"
        if endpoint in ACTIONS:
            yield SettingProblem(
                name, f"name the endpoint instead of the action: {ACTIONS[endpoint].endpoint}", limit
            )
        elif endpoint not in ENDPOINTS:
            meant = did_you_mean(endpoint, ENDPOINTS) or f"; it knows {', '.join(ENDPOINTS)}"
            yield SettingProblem(name, f"the worker calls no such endpoint{meant}", limit)
    highest = max(limits.calls_per_second, *limits.per_endpoint.values(), 0)
    connections = settings.http.max_connections
    if connections is not None and connections < highest:
        yield SettingProblem(
            "http.max_connections",
            f"give at least {highest}, the permits of an endpoint, or null for as many as the permits",
            connections,
        )


def _proxy(settings: Settings) -> Iterator[SettingProblem]:
    http = settings.http
    if http.proxy_credentials_file is not None:
        name, path = "http.proxy_credentials_file", str(http.proxy_credentials_file)
        if http.proxy is None:
            yield SettingProblem(name, "leave it out, or set http.proxy: without it the file has no effect")
        yield from secret_file_problems(name, path, holds_pair=True)
    if http.ca_file is not None:
        yield from authority_problem("http.ca_file", str(http.ca_file))


def _retries(settings: Settings) -> Iterator[SettingProblem]:
    give_up = settings.retry.give_up_after_seconds
    if give_up is not None and give_up < settings.http.timeout_seconds:
        yield SettingProblem(
            "retry.give_up_after_seconds",
            f"make it at least http.timeout_seconds ({settings.http.timeout_seconds:g}): one attempt may take that long",
            give_up,
        )


_CHECKS: Final[tuple[Callable[[Settings], Iterator[SettingProblem]], ...]] = (
    _topics, _timing, _options, _apps, _limits, _proxy, _retries, guard_problems,
)  # fmt: skip


def _key_file(name: str, read: Callable[[], str], path: str | None) -> Iterator[SettingProblem]:
    try:
        read()
    except SignatureError as error:
        yield SettingProblem(name, f"put the key there: {error}", path)
