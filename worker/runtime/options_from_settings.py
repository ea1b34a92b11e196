# Turns the settings into what each part takes: the broker's options, the client's, the engine's settings, the replica's name.
#
# Values in, values out, except for sign-in tokens, which are fetched when Kafka first asks for one. All else is built and
# opened in wiring.py, so commands that only look, such as `check`, use this too.

from __future__ import annotations

import os
import secrets
import socket
from datetime import datetime
from typing import TYPE_CHECKING

from worker.broker import msk_iam
from worker.broker.access_token_cache import AccessTokenCache
from worker.broker.client_config import contradictions
from worker.broker.oauth import OAuthOptions, fetch_token
from worker.broker.options import RESTORED_AT_ONCE, KafkaOptions
from worker.broker.topic_admin import CREATE, problems
from worker.domain.engine_settings import EngineSettings
from worker.domain.memory_budget import MEBIBYTE, share
from worker.domain.progress.commit_metadata import mark_of
from worker.errors import SettingProblem, SettingsError
from worker.settings import secret_in, secrets_in_option, secrets_of
from worker.tencent.client_options import AppCredentials, HttpOptions, base_url

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from worker.broker.options import Start
    from worker.broker.topic_admin import Topic, WorkerTopics
    from worker.domain.contract.outcomes import Worker
    from worker.settings import KafkaSettings, Settings


def misfits(settings: Settings, options: KafkaOptions, report: WorkerTopics) -> list[SettingProblem]:
    """Return the settings that do not fit the existing topics."""
    found = problems(report, options, dedupe_window=settings.dedupe.window_seconds)
    if settings.guards and report.control is None and not report.control_denied:
        remedy = f"this topic does not exist, and guards write what they decide to it: {CREATE} creates it"
        found.append(SettingProblem("kafka.control_topic", remedy, options.control_topic))
    partitions = 0 if report.command is None else report.command.partitions
    limits = {"limits.calls_per_second": settings.limits.calls_per_second}
    limits |= {f"limits.per_endpoint.{name}": value for name, value in settings.limits.per_endpoint.items()}
    found += [
        SettingProblem(
            name,
            f"raise it to at least {partitions}, the partitions of the command topic: each owns a slice",
            value=value,
        )
        for name, value in limits.items()
        if value < partitions
    ]
    return found


def worker_name(settings: Settings) -> str:
    """
    Return a name for this replica that no other live one has. With ``kafka.instance_id`` it survives a restart.

    Host name and process id alone are not unique: containers of one image may share both, and would fence each other.
    """
    return settings.kafka.instance_id or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


def kafka_options(
    settings: Settings,
    name: str,
    on_new_secret: Callable[[str], None] = lambda _: None,
    on_new_token: Callable[[str], None] = lambda _: None,
) -> KafkaOptions:
    """
    Return the settings as the broker takes them. Raises SettingsError when kafka-python would refuse their combination.

    ``on_new_secret`` receives each secret that a file gains after the start, ``on_new_token`` each access token, so that logs
    can hide them. Both may be called on any thread.
    """
    kafka = settings.kafka
    known = set(secrets_of(settings))

    def fresh(secret: str) -> str:
        if secret not in known:
            on_new_secret(secret)
            known.add(secret)
        return secret

    def file_secrets(part: str) -> dict[str, str]:
        found = kafka.file_secrets(part)
        for option, value in found.items():
            for secret in secrets_in_option(option, value):
                fresh(secret)
        return found

    options = KafkaOptions(
        bootstrap_servers=",".join(kafka.bootstrap_servers),
        group_id=kafka.group_id,
        command_topic=kafka.command_topics[0],
        outcome_topic=kafka.outcome_topic,
        dead_letter_topic=kafka.dead_letter_topic,
        client_name=name,
        control_topic=kafka.control_topic,
        quota_topic=kafka.quota_topic,
        instance_id=kafka.instance_id,
        start=_start(kafka.start),
        handover=kafka.handover_seconds,
        session_timeout=kafka.consumer_seconds("session_timeout_ms"),
        heartbeat_interval=kafka.consumer_seconds("heartbeat_interval_ms"),
        max_poll_interval=kafka.consumer_seconds("max_poll_interval_ms"),
        restore_records=settings.dedupe.restore_records,
        restore_bytes=share("ids", settings.memory.budget_mib * MEBIBYTE) // RESTORED_AT_ONCE,
        restore_window=settings.dedupe.window_seconds,
        cloudevents_headers=kafka.cloudevents_headers,
        common=kafka.options("common"),
        consumer=kafka.options("consumer"),
        producer=kafka.options("producer"),
        file_secrets=file_secrets,
        sign_in_remedy=_sign_in_remedy(kafka),
        tokens=_tokens(kafka, fresh, on_new_token),
    )
    found = contradictions(options)
    if found:
        raise SettingsError(found)
    return options


def _tokens(
    kafka: KafkaSettings, fresh: Callable[[str], str], on_new_token: Callable[[str], None]
) -> AccessTokenCache | None:
    """Return the cache of access tokens; None if the sign-in needs none. It fetches no token before a connection asks for one."""
    oauth, region = kafka.oauth, kafka.aws_msk_iam.region
    if region is not None:
        return AccessTokenCache(msk_iam.fetcher(region), learn=on_new_token)
    if oauth.token_url is None or oauth.client_id is None or oauth.client_secret_file is None:
        return None
    file = str(oauth.client_secret_file)
    options = OAuthOptions(
        token_url=oauth.token_url,
        client_id=oauth.client_id,
        client_secret_file=file,
        read_secret=lambda: fresh(secret_in(file)),
        scope=oauth.scope,
        ca_file=_text_of(oauth.ca_file),
    )
    return AccessTokenCache(lambda: fetch_token(options), oauth.extensions, on_new_token)


def _text_of(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _sign_in_remedy(kafka: KafkaSettings) -> str:
    if kafka.aws_msk_iam.region is not None:
        return "allow the worker's AWS role kafka-cluster:Connect on this cluster, and name the cluster's own region"
    if kafka.oauth.given:
        return (
            "let the brokers accept the tokens that kafka.oauth.token_url gives this client: their issuer, audience, "
            "scope and signing keys, and both clocks"
        )
    source = kafka.common.get("sasl_plain_password_file", "kafka.common.sasl_plain_password")
    return f"put the right password into {source}; it is read again at each new connection"


def _start(text: str) -> Start:
    named: dict[str, Start] = {"earliest": "earliest", "latest": "latest"}
    return named.get(text) or datetime.fromisoformat(text)


def engine_settings_of(settings: Settings, topic: Topic, worker: Worker) -> EngineSettings:
    """Return the settings as the engine takes them. ``topic`` is the command topic."""
    limits, dedupe, retry = settings.limits, settings.dedupe, settings.retry
    from_send = limits.window_from == "send"
    return EngineSettings(
        topic=topic.name,
        topic_id=topic.topic_id,
        partitions=topic.partitions,
        owner_mark=mark_of(settings.kafka.instance_id),
        apps={name: app.identifier for name, app in settings.tencent.apps.items()},
        default_app=settings.tencent.app_by_default,
        worker=worker,
        protected_users=frozenset(settings.tencent.protected_users),
        default_calls_per_second=limits.calls_per_second,
        calls_per_second=limits.per_endpoint,
        window=1.0 + limits.window_margin_ms / 1000 if from_send else 1.0,
        window_from_send=from_send,
        overdue_after=settings.batching.max_wait_seconds,
        urgent_share=settings.batching.urgent_share,
        reasons_matter=settings.batching.reasons == "exact",
        dedupe_window=dedupe.window_seconds,
        restore_records=dedupe.restore_records,
        effect_window=dedupe.effect_window_seconds,
        all_effects=dedupe.effects == "all",
        supersede=dedupe.supersede,
        max_attempts=retry.max_attempts,
        give_up_after=retry.give_up_after_seconds,
        max_gap=settings.kafka.max_gap,
        memory_budget=settings.memory.budget_mib * MEBIBYTE,
        shadow=settings.shadow,
        guards=settings.guards,
        quota_pools=_quota_pools(settings) if lends(settings) else {},
    )


def lends(settings: Settings) -> bool:
    """Return whether replicas may lend permits to each other: there is a way to carry their messages."""
    return settings.kafka.quota_topic is not None


def _quota_pools(settings: Settings) -> dict[str, str]:
    return {
        name: f"{settings.kafka.group_id}/{app.sdk_app_id}" for name, app in settings.tencent.apps.items()
    }


def apps_of(settings: Settings) -> list[AppCredentials]:
    """Return the apps as the client takes them."""
    return [
        AppCredentials(
            name=name,
            sdk_app_id=app.sdk_app_id,
            identifier=app.identifier,
            base_url=app.base_url if app.base_url is not None else base_url(app.region or ""),
            secret_key=None if app.secret_key is None else app.secret_key.get_secret_value(),
            secret_key_file=app.secret_key_file,
        )
        for name, app in settings.tencent.apps.items()
    ]


def http_options(settings: Settings) -> HttpOptions:
    """Return the HTTP settings as the client takes them."""
    limits = settings.limits
    most = max([limits.calls_per_second, *limits.per_endpoint.values()])
    return HttpOptions(
        timeout=settings.http.timeout_seconds,
        max_connections=settings.http.max_connections or most,
        longest_backoff=settings.retry.max_wait_seconds,
        proxy=settings.http.proxy,
        proxy_credentials_file=_text_of(settings.http.proxy_credentials_file),
        ca_file=_text_of(settings.http.ca_file),
    )
