# Settings from a file and an environment: what overrides what, and what a value may be.

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from kafka import KafkaConsumer

from tests.unit.settings.environment import KEY, load, minimal, problems
from worker.errors import SettingsError, SignatureError
from worker.settings import load as load_from
from worker.settings import secrets_of
from worker.settings.kafka_section import CONSUMER_TIMEOUTS_MS
from worker.settings.types import Region
from worker.tencent.client_options import REGIONS

if TYPE_CHECKING:
    from worker.settings import Settings

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(data: Any) -> Path:
        path = tmp_path / "worker.yaml"
        path.write_text(data if isinstance(data, str) else yaml.safe_dump(data))
        return path

    return written


def test_the_least_that_must_be_said_is_the_brokers_and_one_app(write: Write) -> None:
    settings = load_from(write(minimal()), {})

    assert settings.kafka.bootstrap_servers == ("kafka:9092",)
    assert settings.kafka.command_topics == ("moderation.commands",)
    assert settings.tencent.app_by_default == "main"
    assert settings.limits.calls_per_second == 200
    assert settings.drain_seconds == 25


def test_the_file_may_be_named_by_a_variable(write: Write) -> None:
    assert load_from(None, {"WORKER_CONFIG": str(write(minimal()))}).server.port == 9000


def test_no_file_is_needed_at_all() -> None:
    settings = load_from(
        None,
        {
            "WORKER_KAFKA__BOOTSTRAP_SERVERS": "a:1,b:2",
            "WORKER_TENCENT__APPS__MAIN__SDK_APP_ID": "1400000001",
            "WORKER_TENCENT__APPS__MAIN__IDENTIFIER": "admin",
            "WORKER_TENCENT__APPS__MAIN__SECRET_KEY": KEY,
            "WORKER_TENCENT__APPS__MAIN__REGION": "singapore",
        },
    )

    assert settings.kafka.bootstrap_servers == ("a:1", "b:2")
    assert settings.tencent.apps["main"].key() == KEY


def test_a_variable_goes_over_the_file_and_leaves_the_rest_of_its_section(write: Write) -> None:
    data = minimal(kafka={"group_id": "mine", "max_gap": 500})

    settings = load_from(write(data), {"WORKER_KAFKA__MAX_GAP": "600"})

    assert settings.kafka.max_gap == 600
    assert settings.kafka.group_id == "mine"


@pytest.mark.parametrize("spelled", ["MY_APP", "my_app", "My_App", "MY-APP"])
def test_a_variable_finds_the_app_that_the_file_names_differently(write: Write, spelled: str) -> None:
    data = minimal()
    data["tencent"]["apps"] = {"my-app": data["tencent"]["apps"]["main"]}

    settings = load_from(write(data), {f"WORKER_TENCENT__APPS__{spelled}__IDENTIFIER": "other"})

    assert list(settings.tencent.apps) == ["my-app"]
    assert settings.tencent.apps["my-app"].identifier == "other"


@pytest.mark.parametrize(
    ("variable", "text", "read"),
    [
        ("DRAIN_SECONDS", "12.5", lambda s: s.drain_seconds == 12.5),
        ("DEDUPE__SUPERSEDE", "false", lambda s: s.dedupe.supersede is False),
        ("RETRY__GIVE_UP_AFTER_SECONDS", "null", lambda s: s.retry.give_up_after_seconds is None),
        ("HTTP__MAX_CONNECTIONS", "250", lambda s: s.http.max_connections == 250),
        ("KAFKA__COMMAND_TOPICS", '["one"]', lambda s: s.kafka.command_topics == ("one",)),
        ("KAFKA__COMMAND_TOPICS", "one", lambda s: s.kafka.command_topics == ("one",)),
        ("KAFKA__INSTANCE_ID", "", lambda s: s.kafka.instance_id is None),
        ("KAFKA__INSTANCE_ID", "null", lambda s: s.kafka.instance_id is None),
        ("KAFKA__CONTROL_TOPIC", "null", lambda s: s.kafka.control_topic is None),
        ("KAFKA__QUOTA_TOPIC", "null", lambda s: s.kafka.quota_topic is None),
        ("HTTP__PROXY", "null", lambda s: s.http.proxy is None),
        ("KAFKA__GROUP_ID", "null", lambda s: s.kafka.group_id == "null"),
        ("KAFKA__INSTANCE_ID", "123", lambda s: s.kafka.instance_id == "123"),
        ("KAFKA__GROUP_ID", "true", lambda s: s.kafka.group_id == "true"),
        ("KAFKA__START", "2026-01-01T00:00:00Z", lambda s: s.kafka.start == "2026-01-01T00:00:00Z"),
        ("TENCENT__PROTECTED_USERS", '["a,b", "c"]', lambda s: s.tencent.protected_users == ("a,b", "c")),
        ("TENCENT__PROTECTED_USERS", "o'brien", lambda s: s.tencent.protected_users == ("o'brien",)),
        ("TENCENT__PROTECTED_USERS", "a, b", lambda s: s.tencent.protected_users == ("a", "b")),
        ("TENCENT__PROTECTED_USERS", "12", lambda s: s.tencent.protected_users == ("12",)),
        ("TENCENT__PROTECTED_USERS", "1e5", lambda s: s.tencent.protected_users == ("1e5",)),
        ("TENCENT__PROTECTED_USERS", "true", lambda s: s.tencent.protected_users == ("true",)),
        ("TENCENT__PROTECTED_USERS", '"a"', lambda s: s.tencent.protected_users == ("a",)),
        ("KAFKA__COMMAND_TOPICS", "2027", lambda s: s.kafka.command_topics == ("2027",)),
        ("KAFKA__CONSUMER__FETCH_MIN_BYTES", "10", lambda s: s.kafka.consumer["fetch_min_bytes"] == 10),
        ("KAFKA__CONSUMER", '{"fetch_min_bytes": 10}', lambda s: s.kafka.consumer["fetch_min_bytes"] == 10),
        (
            "KAFKA__PRODUCER__COMPRESSION_TYPE",
            "zstd",
            lambda s: s.kafka.producer["compression_type"] == "zstd",
        ),
        (
            "LIMITS__PER_ENDPOINT",
            '{"live_engine_http_srv/unban_member": 400}',
            lambda s: s.limits.per_endpoint == {"live_engine_http_srv/unban_member": 400},
        ),
        ("LOG__LEVEL", "debug", lambda s: s.log.level == "debug"),
        ("LOG", '{"level": "debug"}', lambda s: s.log.level == "debug"),
    ],
)
def test_a_variable_is_read_as_its_setting_wants_it(
    write: Write, variable: str, text: str, read: Callable[[Settings], bool]
) -> None:
    assert read(load_from(write(minimal()), {f"WORKER_{variable}": text}))


EXTENSIONS = {"logicalCluster": "lkc-1", "identityPoolId": "pool-2"}


def with_client(write: Write, **oauth: object) -> Path:
    """Settings that sign in with tokens."""
    secret = write({}).with_name("secret")
    secret.write_text("s3cr3t\n")
    client = {"token_url": "https://idp.example/t", "client_id": "worker", "client_secret_file": str(secret)}
    return write(minimal(kafka={"common": {"security_protocol": "SASL_SSL"}, "oauth": client | oauth}))


def test_a_mapping_of_texts_is_json_in_a_variable(write: Write) -> None:
    """It was taken for a text itself, as its names and values are texts: what Confluent Cloud needs could not be set so."""
    settings = load_from(
        with_client(write), {"WORKER_KAFKA__OAUTH__EXTENSIONS": '{"logicalCluster": "lkc-1", "identityPoolId": "pool-2"}'}
    )  # fmt: skip

    assert settings.kafka.oauth.extensions == EXTENSIONS


def test_a_name_whose_capitals_no_variable_can_tell_is_refused_with_what_can(write: Write) -> None:
    """In small letters it would be another extension, and the broker would refuse the sign-in."""
    with pytest.raises(SettingsError) as refused:
        load_from(with_client(write), {"WORKER_KAFKA__OAUTH__EXTENSIONS__LOGICALCLUSTER": "lkc-1"})

    (problem,) = refused.value.problems
    assert problem.name == "kafka.oauth.extensions.logicalcluster"
    assert "give WORKER_KAFKA__OAUTH__EXTENSIONS as JSON" in problem.remedy


@pytest.mark.parametrize("value", ["lkc-2", "2", "null"])
def test_a_name_that_is_given_already_has_its_capitals_from_there(write: Write, value: str) -> None:
    """And its value is the text as it is, whatever it would be as JSON."""
    one = {"WORKER_KAFKA__OAUTH__EXTENSIONS__LOGICALCLUSTER": value}
    as_json = {"WORKER_KAFKA__OAUTH__EXTENSIONS": '{"logicalCluster": "lkc-1"}'}

    in_file = load_from(with_client(write, extensions=EXTENSIONS), one)
    in_variable = load_from(with_client(write), as_json | one)

    assert in_file.kafka.oauth.extensions == EXTENSIONS | {"logicalCluster": value}
    assert in_variable.kafka.oauth.extensions == {"logicalCluster": value}


def test_a_variable_finds_the_app_that_another_variable_names(write: Write) -> None:
    """It made a second app of the same name in small letters, which lacked everything else."""
    data = minimal()
    app = data["tencent"].pop("apps")["main"]
    del app["secret_key"]

    settings = load_from(
        write(data),
        {"WORKER_TENCENT__APPS": json.dumps({"EU-Main": app}), "WORKER_TENCENT__APPS__EU_MAIN__SECRET_KEY": KEY},
    )  # fmt: skip

    assert settings.tencent.apps["EU-Main"].key() == KEY
    assert len(settings.tencent.apps) == 1


def test_of_two_apps_that_a_variable_may_mean_it_means_the_one_that_is_spelled_so(write: Write) -> None:
    data = minimal()
    one = data["tencent"]["apps"].pop("main")
    data["tencent"]["apps"] = {"my-app": one, "my_app": one | {"sdk_app_id": 2}}

    settings = load_from(write(data), {"WORKER_TENCENT__APPS__MY_APP__IDENTIFIER": "other"})

    assert [app.identifier for app in settings.tencent.apps.values()] == ["admin", "other"]


@pytest.mark.parametrize("variable", ["WORKER_PORT", "WORKER_SERVICE_HOST", "WORKER_API_PORT_80_TCP_ADDR"])
def test_variables_that_kubernetes_makes_for_a_service_called_worker_are_no_settings(
    write: Write, variable: str
) -> None:
    assert load_from(write(minimal()), {variable: "tcp://10.0.0.1:80"}) == load_from(write(minimal()), {})


@pytest.mark.parametrize("variable", ["WORKER_SERVER_PORT", "WORKER_PORT"])
def test_a_port_is_none_of_these_variables(variable: str) -> None:
    """An underscore was forgotten, and the worker listened elsewhere without a word."""
    found = problems(minimal(), {variable: "9001"})

    assert [problem.remedy.endswith("did you mean server.port?") for problem in found.values()] == [True]


def test_a_password_of_digits_stays_a_text() -> None:
    common = {"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "sasl_plain_username": "u"}
    data = minimal(kafka={"common": common})

    settings = load(data, {"WORKER_KAFKA__COMMON__SASL_PLAIN_PASSWORD": "0123"})

    assert settings.kafka.options()["sasl_plain_password"] == "0123"


def test_secrets_are_read_from_files_too(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    (tmp_path / "password").write_text("hunter2-hunter2\n")
    data = minimal(
        kafka={
            "common": {
                "security_protocol": "SASL_SSL",
                "sasl_mechanism": "PLAIN",
                "sasl_plain_username": "u",
                "sasl_plain_password_file": str(tmp_path / "password"),
            }
        },
        app={"secret_key": None, "secret_key_file": str(tmp_path / "key")},
    )

    settings = load(data)

    assert settings.tencent.apps["main"].key() == KEY
    assert settings.kafka.options()["sasl_plain_password"] == "hunter2-hunter2"
    assert "sasl_plain_password_file" not in settings.kafka.options()
    assert set(secrets_of(settings)) == {KEY, "hunter2-hunter2"}


def test_a_key_file_is_read_again_each_time_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(KEY)
    app = load(minimal(app={"secret_key": None, "secret_key_file": str(path)})).tencent.apps["main"]

    path.write_text("another")
    assert app.key() == "another"

    path.unlink()
    with pytest.raises(SignatureError, match="cannot be read"):
        app.key()


def test_no_repr_and_no_dump_shows_a_secret() -> None:
    common = {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "PLAIN",
        "sasl_plain_username": "worker",
        "sasl_plain_password": "hunter2-hunter2",
    }
    settings = load(minimal(kafka={"common": common}))

    proxied = load(minimal(kafka={"common": {"socks5_proxy": "socks5://user:hunter2-hunter2@proxy:1080"}}))
    assert secrets_of(proxied)[-2:] == ("socks5://user:hunter2-hunter2@proxy:1080", "hunter2-hunter2")

    shown = f"{proxied!r} {proxied.model_dump_json()} {settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()} {settings.kafka!r}"

    assert KEY not in shown
    assert "hunter2" not in shown


def test_settings_cannot_be_changed() -> None:
    settings = load(minimal())

    with pytest.raises(ValueError, match="frozen"):
        settings.server.port = 1


def test_a_repeated_section_is_refused_instead_of_lost(write: Write) -> None:
    path = write("kafka: {bootstrap_servers: a:1}\nlog: {level: info}\nkafka: {bootstrap_servers: b:1}\n")

    with pytest.raises(SettingsError, match="a key is repeated at line 3"):
        load_from(path, {})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("kafka: [", "not valid YAML"),
        (f"tencent: *{KEY}", "not valid YAML at line 1"),
        ("- kafka", "must contain a mapping"),
        ("a: !!python/object:os.system {}", "not valid YAML"),
        ("? [kafka]\n: a", "a list or mapping cannot name a setting at line 1"),
        ("? {kafka: b}\n: a", "a list or mapping cannot name a setting at line 1"),
        ("a: " + "[" * 5000, "nested too deep"),
        ("a: !!int nine", "does not fit its tag"),
        ("a: !!map [1]", "does not fit its tag"),
        ("a: 1\nb: \0", r"the character U\+0000, which no YAML may: take it out at line 2, column 4"),
        ("a: \x1b[31m", r"the character U\+001B.* at line 1, column 4"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused_without_its_text(write: Write, text: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason) as refused:
        load_from(write(text), {})

    assert KEY not in str(refused.value)


def test_a_time_needs_no_quotes(write: Write) -> None:
    """YAML makes an object of it, which would be refused with the advice to give a time."""
    path = write(yaml.safe_dump(minimal()).replace("kafka:\n", "kafka:\n  start: 2026-11-21T04:00:00Z\n"))

    assert load_from(path, {}).kafka.start == "2026-11-21T04:00:00Z"


@pytest.mark.parametrize("name", ["1400000000", "no", "007"])
def test_an_app_may_be_called_by_anything_that_is_no_text_for_yaml(write: Write, name: str) -> None:
    text = yaml.safe_dump(minimal())
    assert "    main:" in text

    settings = load_from(write(text.replace("    main:", f"    {name}:")), {})

    assert list(settings.tencent.apps) == [name]


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(SettingsError, match=r"/no/such\.yaml.*cannot be read") as refused:
        load_from("/no/such.yaml", {})

    assert refused.value.problems[0].name == "/no/such.yaml"


def test_timeouts_that_are_not_set_are_those_of_kafka_python() -> None:
    settings = load(minimal(kafka={"consumer": {"session_timeout_ms": 12_000}}))

    theirs = {name: KafkaConsumer.DEFAULT_CONFIG[name] for name in CONSUMER_TIMEOUTS_MS}
    ours = {"session_timeout_ms": 15_000, "heartbeat_interval_ms": 300}
    assert {**theirs, **ours} == CONSUMER_TIMEOUTS_MS
    assert settings.kafka.consumer_seconds("session_timeout_ms") == 12
    assert settings.kafka.consumer_seconds("max_poll_interval_ms") == 300


def test_the_regions_are_those_that_the_client_knows() -> None:
    assert {region.value for region in Region} == set(REGIONS)
