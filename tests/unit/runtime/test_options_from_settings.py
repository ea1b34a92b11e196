# Every setting reaches the part that it is for, and none reaches another's place: a promise that is proven in a part holds
# only with the value that the operator wrote.

from __future__ import annotations

import socket
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.unit.settings.environment import KEY, load, minimal
from worker.broker.options import KafkaOptions
from worker.broker.topic_admin import Topic, WorkerTopics
from worker.domain.contract.control_records import OrderState, Scope
from worker.domain.contract.outcomes import Worker
from worker.domain.engine_settings import EngineSettings
from worker.domain.progress.commit_metadata import mark_of
from worker.domain.runaway_guards import RunawayGuard
from worker.runtime.options_from_settings import (
    apps_of,
    engine_settings_of,
    http_options,
    kafka_options,
    misfits,
    worker_name,
)
from worker.settings import secrets_of
from worker.tencent.client_options import AppCredentials, HttpOptions

if TYPE_CHECKING:
    from pathlib import Path

WORKER: Final = Worker("worker-0", "1.0")
BAN: Final = "group_open_http_svc/ban_group_member"
EVERYTHING: Final[dict[str, Any]] = {
    "kafka": {
        "bootstrap_servers": ["one:9092", "two:9092"],
        "group_id": "group",
        "command_topics": ["commands"],
        "outcome_topic": "outcomes",
        "dead_letter_topic": "letters",
        "control_topic": "orders",
        "quota_topic": "quota",
        "instance_id": "replica-3",
        "start": "2030-01-01T00:00:00Z",
        "max_gap": 1234,
        "handover_seconds": 4,
        "cloudevents_headers": True,
        "common": {"security_protocol": "PLAINTEXT"},
        "consumer": {
            "session_timeout_ms": 20_000,
            "heartbeat_interval_ms": 2_000,
            "max_poll_interval_ms": 200_000,
        },
        "producer": {"linger_ms": 7},
    },
    "tencent": {
        "apps": {
            "main": {"sdk_app_id": 1, "identifier": "admin", "secret_key": KEY, "region": "seoul"},
            "second": {
                "sdk_app_id": 2,
                "identifier": "root",
                "secret_key": KEY,
                "base_url": "https://second.example",
            },
        },
        "default_app": "second",
        "protected_users": ["moderator"],
    },
    "limits": {"calls_per_second": 150, "per_endpoint": {BAN: 180}},
    "batching": {"max_wait_seconds": 2.5, "reasons": "any"},
    "dedupe": {
        "window_seconds": 1800,
        "restore_records": 2500,
        "effect_window_seconds": 30,
        "effects": "all",
        "supersede": False,
    },
    "http": {"timeout_seconds": 8, "max_connections": 190},
    "retry": {"max_attempts": 6, "max_wait_seconds": 9, "give_up_after_seconds": 300},
    "shadow": True,
    "guards": [{"scope": {"issuer": "*"}, "members": 500, "per_seconds": 60, "then": "shadow"}],
}
COMMANDS: Final = Topic("commands", 12, topic_id="tW5xAAAAAAAAAAAAAAAAAQ")
ENGINE_SETTINGS: Final = EngineSettings(
    topic="commands",
    topic_id="tW5xAAAAAAAAAAAAAAAAAQ",
    partitions=12,
    owner_mark=mark_of("replica-3"),
    apps={"main": "admin", "second": "root"},
    default_app="second",
    worker=WORKER,
    protected_users=frozenset({"moderator"}),
    default_calls_per_second=150,
    calls_per_second={BAN: 180},
    window=1.0,
    window_from_send=False,
    overdue_after=2.5,
    reasons_matter=False,
    dedupe_window=1800.0,
    restore_records=2500,
    effect_window=30.0,
    all_effects=True,
    supersede=False,
    max_attempts=6,
    give_up_after=300.0,
    max_gap=1234,
    shadow=True,
    guards=(RunawayGuard(Scope(issuer="*"), 500, 60, OrderState.SHADOW),),
    quota_pools={"main": "group/1", "second": "group/2"},
)


def test_the_engine_works_by_the_settings() -> None:
    assert engine_settings_of(load(EVERYTHING), COMMANDS, WORKER) == ENGINE_SETTINGS


def test_a_window_from_the_sending_has_the_margin_and_one_from_the_answer_needs_none() -> None:
    limits = {**EVERYTHING["limits"], "window_margin_ms": 250}
    from_answer = load({**EVERYTHING, "limits": limits})
    from_send = load({**EVERYTHING, "limits": {**limits, "window_from": "send"}})

    assert engine_settings_of(from_answer, COMMANDS, WORKER) == ENGINE_SETTINGS
    assert engine_settings_of(from_send, COMMANDS, WORKER) == replace(
        ENGINE_SETTINGS, window=1.25, window_from_send=True
    )


def test_the_broker_works_by_the_settings() -> None:
    assert kafka_options(load(EVERYTHING), "name") == KafkaOptions(
        bootstrap_servers="one:9092,two:9092",
        group_id="group",
        command_topic="commands",
        outcome_topic="outcomes",
        dead_letter_topic="letters",
        control_topic="orders",
        client_name="name",
        quota_topic="quota",
        instance_id="replica-3",
        start=datetime(2030, 1, 1, tzinfo=UTC),
        handover=4.0,
        session_timeout=20.0,
        heartbeat_interval=2.0,
        max_poll_interval=200.0,
        restore_records=2500,
        restore_window=1800.0,
        restore_bytes=10_066_329,
        cloudevents_headers=True,
        common={"security_protocol": "PLAINTEXT"},
        consumer=EVERYTHING["kafka"]["consumer"],
        producer={"linger_ms": 7},
    )


@pytest.mark.parametrize("start", ["earliest", "latest"])
def test_a_beginning_may_be_a_word(start: str) -> None:
    assert kafka_options(load(minimal(kafka={"start": start})), "name").start == start


def test_the_client_works_by_the_settings() -> None:
    settings = load(EVERYTHING)

    assert http_options(settings) == HttpOptions(timeout=8.0, max_connections=190, longest_backoff=9.0)
    assert apps_of(settings) == [
        AppCredentials("main", 1, "admin", "https://adminapikr.im.qcloud.com", secret_key=KEY),
        AppCredentials("second", 2, "root", "https://second.example", secret_key=KEY),
    ]


def test_a_key_in_a_file_is_left_to_the_client_to_read(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(KEY)
    (app,) = apps_of(load(minimal(app={"secret_key": None, "secret_key_file": str(file)})))

    assert (app.secret_key, app.secret_key_file) == (None, file)


def test_there_are_as_many_connections_as_permits_if_nothing_else_is_said() -> None:
    settings = load(minimal(limits={"calls_per_second": 150, "per_endpoint": {BAN: 180}}))

    assert http_options(settings).max_connections == 180


def test_a_replica_is_called_by_its_instance_id() -> None:
    assert worker_name(load(EVERYTHING)) == "replica-3"


def test_without_an_instance_id_no_two_replicas_have_one_name() -> None:
    """Two containers with one host name have process id 1 both: with one name they would fence each other, for ever."""
    settings = load(minimal())

    assert worker_name(settings) != worker_name(settings)
    assert worker_name(settings).startswith(socket.gethostname())


def test_a_password_in_a_file_is_read_again_whenever_it_is_asked_for(tmp_path: Path) -> None:
    """The restoration makes clients of its own, long after the start: with the old password, they would be refused for ever."""
    file = tmp_path / "password"
    file.write_text("old\n")
    common = {
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "PLAIN",
        "sasl_plain_username": "mod",
        "sasl_plain_password_file": str(file),
    }
    learnt: list[str] = []
    options = kafka_options(load(minimal(kafka={"common": common})), "name", learnt.append)

    before = options.secrets_for("consumer")()
    file.write_text("new\n")
    after = options.secrets_for("common")()
    options.secrets_for("common")()

    assert (before, after) == ({"sasl_plain_password": "old"}, {"sasl_plain_password": "new"})
    assert learnt == ["new"]
    assert str(file) in options.sign_in_remedy


@pytest.mark.parametrize("option", ["proxy_url", "socks5_proxy"])
def test_the_password_in_a_proxys_url_is_hidden_as_well_as_the_whole(tmp_path: Path, option: str) -> None:
    """The worker puts an address in place of the proxy's name: then the whole is another text."""
    file = tmp_path / "proxy"
    file.write_text("socks5://user:hunter2%2Fold@proxy:1080\n")
    settings = load(minimal(kafka={"common": {f"{option}_file": str(file)}}))
    learnt: list[str] = []
    options = kafka_options(settings, "name", learnt.append)
    known = {*secrets_of(settings)}

    options.secrets_for("common")()
    file.write_text("//user:hunter2%2Fnew@proxy:1080\n")
    options.secrets_for("common")()

    assert {"hunter2%2Fold", "hunter2/old"} < known
    assert learnt == ["//user:hunter2%2Fnew@proxy:1080", "hunter2%2Fnew", "hunter2/new"]


def test_a_limit_below_the_partitions_does_not_fit() -> None:
    """Each partition owns a slice of the quota: one with an empty slice would never be worked on."""
    settings = load({**EVERYTHING, "limits": {"calls_per_second": 12, "per_endpoint": {BAN: 11}}})
    topics = [Topic(name, 12) for name in ("commands", "outcomes", "letters")]

    found = misfits(
        settings,
        kafka_options(settings, "name"),
        WorkerTopics(topics[0], topics[1], topics[2], Topic("orders", 1)),
    )

    assert [(problem.name, problem.value) for problem in found] == [(f"limits.per_endpoint.{BAN}", 11)]


def test_guards_do_not_fit_a_cluster_that_has_no_control_topic() -> None:
    """What they decide would hold on one replica, and be forgotten at its restart."""
    settings = load(EVERYTHING)
    options = kafka_options(settings, "name")
    topics = [Topic(name, 12) for name in ("commands", "outcomes", "letters")]

    (found,) = misfits(settings, options, WorkerTopics(*topics))

    assert (found.name, found.value) == ("kafka.control_topic", "orders")
    assert "topics create" in found.remedy
    assert misfits(load({**EVERYTHING, "guards": []}), options, WorkerTopics(*topics)) == []


def test_what_a_part_does_where_nothing_is_said_is_what_the_settings_say() -> None:
    """The core's defaults are the settings'; those of the adapters are beside what they are for, and must not drift."""
    settings = load(minimal(app={"identifier": "admin"}))
    engine_settings = EngineSettings(
        topic="commands",
        topic_id=COMMANDS.topic_id,
        partitions=12,
        apps={"main": "admin"},
        default_app="main",
        worker=WORKER,
        quota_pools={"main": "moderation-worker/1400000001"},
    )
    kafka = KafkaOptions(
        bootstrap_servers="kafka:9092",
        group_id="moderation-worker",
        command_topic="moderation.commands",
        outcome_topic="moderation.outcomes",
        dead_letter_topic="moderation.dead-letters",
        control_topic="moderation.control",
        quota_topic="moderation.quota",
        client_name="name",
    )

    assert engine_settings_of(settings, COMMANDS, WORKER) == engine_settings
    assert kafka_options(settings, "name") == kafka
    assert http_options(settings) == HttpOptions()
