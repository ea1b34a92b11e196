# Unsafe, contradictory or misspelt settings are refused, all at once, each with its name and the remedy, never with a secret.

from __future__ import annotations

import copy
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.net.sasl import SASL_MECHANISMS

from tests.unit.settings.environment import KEY, load, minimal, problems
from worker.errors import SettingsError
from worker.settings.setting_rows import NAME, rows, table_of_rows
from worker.settings.sources import merged

if TYPE_CHECKING:
    from pathlib import Path

APP = "tencent.apps.main"


def at(name: str, value: object) -> dict[str, Any]:
    """Return the least that is valid, with one setting changed."""
    data: Any = value
    for word in reversed(name.split(".")):
        data = {word: data}
    result: dict[str, Any] = merged(minimal(), data)
    return result


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("kafka.bootstrap_servers", [], "host:port"),
        ("kafka.bootstrap_servers", ["kafka"], "host:port"),
        ("kafka.bootstrap_servers", ["kafka:99999"], "host:port"),
        ("kafka.command_topics", ["a", "b"], "exactly one topic"),
        ("kafka.command_topics", [], "exactly one topic"),
        ("kafka.command_topics", ["a b"], "a-z A-Z"),
        ("kafka.outcome_topic", "moderation.commands", "kafka.command_topics is the same"),
        ("kafka.dead_letter_topic", "moderation.outcomes", "kafka.outcome_topic is the same"),
        ("kafka.quota_topic", "moderation.outcomes", "kafka.outcome_topic is the same"),
        ("kafka.group_id", "", "1 to 249 bytes"),
        ("kafka.start", "yesterday", "RFC 3339"),
        ("kafka.start", "2026-01-01T00:00:00", "offset from UTC"),
        ("kafka.max_gap", 22_681, "from 100 to 22680"),
        ("kafka.max_gap", 99, "from 100"),
        ("kafka.max_gap", True, "whole number"),
        ("kafka.handover_seconds", 15, "shorter than the session timeout"),
        ("kafka.common.enable_auto_commit", True, "leave it out"),
        ("kafka.common.bootstrap_servers", "a:1", "kafka.bootstrap_servers"),
        ("kafka.common.ssl_cafil", "/x", "did you mean ssl_cafile"),
        ("kafka.common.linger_ms", 5, "belongs to kafka.producer"),
        ("kafka.common.ssl_check_hostname", "no", "true or false"),
        ("kafka.common.security_protocol", "TLS", "SASL_SSL"),
        ("kafka.common.sasl_mechanism", "PLAIN", None),
        ("kafka.common.ssl_cafile", "/", "cannot be read"),
        ("kafka.consumer.auto_offset_reset", "latest", "kafka.start"),
        ("kafka.consumer.enable_auto_commit", False, "leave it out"),
        ("kafka.consumer.isolation_level", "read_uncommitted", "promises"),
        ("kafka.consumer.group_id", "x", "kafka.group_id"),
        ("kafka.consumer.value_deserializer", "json", "Python object"),
        ("kafka.consumer.session_timeout_ms", 5000, "from 6000"),
        ("kafka.consumer.heartbeat_interval_ms", 20_000, "third of the session timeout"),
        ("kafka.consumer.fetch_min_bytes", "many", "whole number"),
        ("kafka.consumer.max_poll_interval_ms", 20_000, None),
        ("kafka.producer.transactional_id", "x", "fence each other"),
        ("kafka.producer.enable_idempotence", False, "promises"),
        ("kafka.producer.acks", 1, "promises"),
        ("kafka.producer.transaction_timeout_ms", 1, "promises"),
        ("limits.calls_per_second", 0, "from 1"),
        ("limits.calls_per_second", 1.5, "whole number"),
        ("limits.per_endpoint", {"live_engine_http_srv/unban_member": 0}, "from 1"),
        ("limits.window_from", "both", "answer or send"),
        ("limits.window_margin_ms", -1, "from 0"),
        ("batching.max_wait_seconds", 0, "above 0"),
        ("batching.max_wait_seconds", float("nan"), "number"),
        ("batching.reasons", "some", "exact or any"),
        ("dedupe.window_seconds", -1, "above 0"),
        ("dedupe.restore_records", 0, "from 1"),
        ("http.timeout_seconds", 3, "above 3"),
        ("http.max_connections", 100, "at least 200"),
        ("retry.max_attempts", 0, "from 1"),
        ("retry.give_up_after_seconds", 5, "http.timeout_seconds"),
        ("server.port", 65_536, "to 65535"),
        ("drain_seconds", 300, "max_poll_interval_ms"),
        ("drain_seconds", 0, "above 0"),
        ("batching.urgent_share", 1, "above 0 and below 1"),
        ("log.level", "loud", "debug, info, warning or error"),
        ("tencent.apps", {}, "at least one app"),
        ("tencent.default_app", "other", "name one of these: main"),
        ("tencent.protected_users", ["x" * 33], "1 to 32 bytes"),
        (f"{APP}.sdk_app_id", 0, "from 1"),
        (f"{APP}.sdk_app_id", True, "whole number"),
        ("tencent.protected_users", [10001], "put it into quotes"),
        (f"{APP}.identifier", 10001, "put it into quotes"),
        (f"{APP}.identifier", "", "1 to 32 bytes"),
        (f"{APP}.identifier", "admin\n", "1 to 32 bytes"),
        (f"{APP}.secret_key", "", "the key"),
        (f"{APP}.secret_key", "two words", "the key"),
        (f"{APP}.region", "mars", "china, singapore"),
        (f"{APP}.region", None, "give this or base_url"),
    ],
)
def test_one_wrong_value_is_refused_with_its_name_and_its_remedy(
    name: str, value: object, remedy: str | None
) -> None:
    data = at(name, value)
    if name == "tencent.apps":
        data["tencent"]["apps"] = value

    found = problems(data)

    if remedy is None:  # reported at the setting that must change with it
        assert found
        return
    assert any(problem == name or problem.startswith(f"{name}.") for problem in found), found
    assert remedy in " ".join(problem.remedy for problem in found.values())


@pytest.mark.parametrize(
    ("kafka", "drain", "name", "value"),
    [
        ({"session_timeout_ms": 5999}, 30, "kafka.consumer.session_timeout_ms", 5999),
        ({"session_timeout_ms": 1_800_001}, 30, "kafka.consumer.session_timeout_ms", 1_800_001),
        ({"session_timeout_ms": 6000}, 30, None, None),
        ({"heartbeat_interval_ms": 5001}, 30, "kafka.consumer.heartbeat_interval_ms", 5001),
        ({"heartbeat_interval_ms": 5000}, 30, None, None),
        ({}, 5, "kafka.handover_seconds", 5),
        ({}, 5.5, None, None),
        ({"max_poll_interval_ms": 30_001}, 30, None, None),
    ],
)
def test_timings_are_refused_with_the_value_that_was_given_and_only_where_they_contradict(
    kafka: dict[str, int], drain: float, name: str | None, value: int | None
) -> None:
    found = problems(
        minimal(kafka={"handover_seconds": 5, "consumer": kafka}, drain_seconds=drain),
    )

    assert {problem: refused.value for problem, refused in found.items()} == (
        {} if name is None else {name: value}
    )


def test_two_topics_that_there_shall_not_be_are_not_the_same_one() -> None:
    assert problems(minimal(kafka={"control_topic": None, "quota_topic": None})) == {}


@pytest.mark.parametrize(
    ("url", "well"),
    [
        ("https://adminapisgp.my-imcloud.com", True),
        ("https://gateway.example:8443/", True),
        ("http://127.0.0.1:8080", True),
        ("http://localhost", True),
        ("http://[::1]:80", True),
        ("http://127.0.0.1.example.com", False),
        ("http://gateway.example", False),
        ("https://user:password@gateway.example", False),
        ("https://gateway.example/v4", False),
        ("https://gateway.example?x=1", False),
        ("https://gateway.example:port", False),
        ("ftp://gateway.example", False),
        ("gateway.example", False),
        ("https://", False),
    ],
)
def test_a_signature_never_leaves_this_machine_unencrypted(url: str, well: bool) -> None:
    found = problems(minimal(app={"region": None, "base_url": url}))

    assert (found == {}) == well
    assert "password" not in str(found)


def test_both_and_neither_are_refused_for_the_key_and_for_the_address(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY)

    both = problems(minimal(app={"secret_key_file": str(tmp_path / "key"), "base_url": "https://a.example"}))
    neither = problems(minimal(app={"secret_key": None, "region": None}))

    assert set(both) == set(neither) == {f"{APP}.secret_key_file", f"{APP}.region"}
    assert "not both" in both[f"{APP}.region"].remedy


@pytest.mark.parametrize("content", ["", "  \n", "two words", "a\nb", "k" * 4097])
def test_a_key_file_without_a_key_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "key").write_text(content)

    found = problems(minimal(app={"secret_key": None, "secret_key_file": str(tmp_path / "key")}))

    assert "secret_key_file is empty" in found[f"{APP}.secret_key_file"].remedy


LIST_SETTINGS = ("tencent.protected_users", "kafka.bootstrap_servers", "kafka.command_topics")


@pytest.mark.parametrize("name", LIST_SETTINGS)
@pytest.mark.parametrize(
    "text",
    ["['a:1','b:1']", '["a:1","b:1"', "[a:1, b:1]", '"a:1","b:1"', "a:1;b:1", "{a:1}", "a:1, 'b:1'"],
)
def test_a_list_that_is_no_list_is_refused_wherever_it_is_written(name: str, text: str) -> None:
    """Each was read as words separated by commas: users with brackets in their names were protected, and nobody else."""
    by_variable = problems(minimal(), {f"WORKER_{name.upper().replace('.', '__')}": text})

    assert set(by_variable) == set(problems(at(name, text))) == {name}
    assert name != LIST_SETTINGS[0] or "write a JSON list, or words separated" in by_variable[name].remedy


@pytest.mark.parametrize(
    "secret",
    ["Zk3/q8Wm+x7Rt2", "/Zk3q8Wm+x7Rt2", "bob:Zk3/q8Wm", "http://bob:Zk3q8Wm@proxy:3128", "/run/bob:Zk3q8Wm"],
)
def test_a_secret_with_a_slash_in_the_place_of_its_file_is_not_shown(secret: str) -> None:
    common = {"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "sasl_plain_username": "worker"}
    data = minimal(
        kafka={"common": {**common, "sasl_plain_password_file": secret}},
        app={"secret_key": None, "secret_key_file": secret},
        http={"proxy": "http://proxy:3128", "proxy_credentials_file": secret},
    )

    found = problems(data)

    assert len(found) == 3
    assert "q8Wm" not in " ".join(map(str, found.values()))


def test_a_path_beside_which_nothing_is_missing_but_the_file_is_shown(tmp_path: Path) -> None:
    found = problems(minimal(app={"secret_key": None, "secret_key_file": f"{tmp_path}/key"}))

    assert f"{tmp_path}/key" in str(found[f"{APP}.secret_key_file"])


def test_a_key_in_the_place_of_its_file_is_not_shown() -> None:
    """A slip that happens: the path is shown in all other problems of this setting."""
    found = problems(minimal(app={"secret_key": None, "secret_key_file": KEY}))

    assert f"{APP}.secret_key_file" in found
    assert KEY not in str(found)


def test_two_apps_of_one_sdk_app_id_would_exceed_its_quota_together() -> None:
    data = minimal()
    data["tencent"]["apps"]["twin"] = data["tencent"]["apps"]["main"]
    data["tencent"]["default_app"] = "main"

    assert set(problems(data)) == {f"{APP}.sdk_app_id", "tencent.apps.twin.sdk_app_id"}


def test_an_action_in_the_place_of_its_endpoint_is_refused_with_the_endpoint() -> None:
    found = problems(
        at("limits.per_endpoint", {"room.kick_user_out": 10, "room_engine_http_srv/kick_user": 10})
    )

    fixes = " ".join(problem.remedy for problem in found.values())
    assert fixes.count("room_engine_http_srv/kick_user_out") == 2


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("kafka.bootstrap_server", "kafka.bootstrap_servers"),
        ("kafka.drain_seconds", "drain_seconds"),
        ("group_id", "kafka.group_id"),
        ("kafka_max_gap", "kafka.max_gap"),
        ("LOG_level", "log.level"),
        ("tencent.apps.main.secretkey", "tencent.apps.main.secret_key"),
        ("limit", "limits"),
        ("log.lvl", "log.level"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_known_one(written: str, meant: str) -> None:
    by_file = problems(at(written, KEY))
    by_variable = problems(minimal(), {f"WORKER_{written.upper().replace('.', '__')}": KEY})

    assert by_file[written].remedy == f"there is no such setting: did you mean {meant}?"
    of = f"(the variable WORKER_{written.upper().replace('.', '__')})"
    assert f"no such setting {of}: did you mean {meant}?" in by_variable[written.lower()].remedy
    assert KEY not in str(by_file) + str(by_variable), "a misspelt name may hold a secret"


@pytest.mark.parametrize("name", ["http.ca_file", "tencent.apps.main.region"])
def test_a_name_in_capitals_is_told_the_setting_in_its_own_place(name: str) -> None:
    """The first section of those that have such a setting was named."""
    above, _, word = name.rpartition(".")

    found = problems(at(f"{above}.{word.capitalize()}", "x"))

    assert found[f"{above}.{word.capitalize()}"].remedy.endswith(f": did you mean {name}?")


@pytest.mark.parametrize("written", ["Limits", "SHADOW", "Drain_seconds", "LOG"])
@pytest.mark.parametrize("value", [None, 10**9, {"level": "x"}])
def test_a_section_in_capitals_is_no_section(written: str, value: object) -> None:
    """Of `shadow` and `Shadow` one was silently lost, and a wrong value in such a section ended in a traceback."""
    found = problems({**minimal(shadow=True), written: value})

    assert list(found) == [written]
    assert found[written].remedy == f"there is no such setting: did you mean {written.lower()}?"


def test_a_setting_that_is_written_with_dots_is_told_how_a_file_has_it() -> None:
    """It was said that there is no such setting, of one that there is."""
    found = problems({**minimal(), "kafka.max_gap": 500}, {"WORKER_LOG.LEVEL": "debug"})

    assert {name: problem.remedy for name, problem in found.items()} == {
        '"kafka.max_gap"': "there is no such setting: write kafka: {max_gap: …}, as a dot does not part names in a file",
        '"log.level"': "there is no such setting (the variable WORKER_LOG.LEVEL): write WORKER_LOG__LEVEL",
    }


def test_a_name_without_a_letter_is_seen_in_its_error() -> None:
    assert set(problems({**minimal(limits={"": 1}), "": 1})) == {'""', 'limits.""'}


def test_a_name_of_a_mapping_that_would_look_like_none_or_several_is_quoted() -> None:
    found = problems(minimal(limits={"per_endpoint": {"": "x", "a.b": "x"}}))

    assert set(found) == {'limits.per_endpoint.""', 'limits.per_endpoint."a.b"'}


def test_a_wrong_value_in_a_mapping_is_refused_by_its_own_name() -> None:
    """The mapping itself was said to be that value, and what is wrong with the others was reported one start later."""
    data = minimal(
        kafka={"oauth": {"extensions": {"logicalCluster": 5, "a b": "x"}}},
        limits={"per_endpoint": {"group_open_http_svc/ban_group_member": 0, "no/such": 5}},
    )

    found = problems(data)

    assert found["limits.per_endpoint.group_open_http_svc/ban_group_member"].value == 0
    assert {
        name: found[name].remedy.split(":")[0]
        for name in sorted(found)
        if "oauth.e" in name or "limits" in name
    } == {
        "kafka.oauth.extensions": "give a mapping of names, of letters alone, to texts of visible ASCII characters (a name has other characters than letters, or is auth)",
        "kafka.oauth.extensions.logicalCluster": "give a text of visible ASCII characters (put it into quotes",
        "limits.per_endpoint.group_open_http_svc/ban_group_member": "give a whole number from 1 to 100000",
        "limits.per_endpoint.no/such": "the worker calls no such endpoint; it knows group_open_http_svc/ban_group_member, "
        "group_open_http_svc/unban_group_member, live_engine_http_srv/unban_member, room_engine_http_srv/kick_user_out, "
        "room_engine_http_srv/update_room_member_info",
    }


def test_the_name_that_other_clients_have_for_an_option_is_answered_with_ours() -> None:
    """librdkafka's `sasl.password` resembles ssl_password more than sasl_plain_password."""
    names = {
        "sasl_password": "sasl_plain_password",
        "sasl_username": "sasl_plain_username",
        "sasl_mechanisms": "sasl_mechanism",
    }

    found = problems(at("kafka.common", dict.fromkeys(names, "x")))

    assert {name: found[f"kafka.common.{name}"].remedy.rpartition(": ")[2] for name in names} == {
        name: f"did you mean {meant}?" for name, meant in names.items()
    }


def test_a_misspelt_option_of_kafka_shows_no_value() -> None:
    found = problems(at("kafka.common.sasl_plain_pasword", "hunter2-hunter2"))

    assert "did you mean sasl_plain_password?" in found["kafka.common.sasl_plain_pasword"].remedy
    assert "hunter2" not in str(found)


def test_a_password_that_yaml_reads_as_a_number_is_refused_and_not_shown() -> None:
    common = {"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "sasl_plain_password": 8472}

    found = problems(minimal(kafka={"common": common}))

    assert set(found) == {"kafka.common.sasl_plain_password", "kafka.common.sasl_plain_username"}
    assert "in quotes" in found["kafka.common.sasl_plain_password"].remedy
    assert "8472" not in str(found)


@pytest.mark.parametrize(
    ("content", "remedy"),
    [
        (None, "cannot be read"),
        (b"\xff\xfe\x00", "it is no UTF-8 text but UTF-16"),
        (b"", "is empty"),
        (b"\nhunter2", "the first line of the file is empty"),
    ],
)
def test_a_password_file_without_a_password_is_refused(
    tmp_path: Path, content: bytes | None, remedy: str
) -> None:
    """A folder, or a file of a wrong kind, would end the start with a traceback; an empty one with a wrong password."""
    path = tmp_path
    if content is not None:
        path = tmp_path / "password"
        path.write_bytes(content)
    common = {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "PLAIN",
        "sasl_plain_username": "worker",
        "sasl_plain_password_file": str(path),
    }

    found = problems(minimal(kafka={"common": common}))

    assert set(found) == {"kafka.common.sasl_plain_password_file"}
    assert remedy in found["kafka.common.sasl_plain_password_file"].remedy
    assert "hunter2" not in str(found)


@pytest.mark.parametrize("mechanism", sorted(SASL_MECHANISMS))
def test_a_mechanism_gets_what_it_needs_or_is_refused(mechanism: str) -> None:
    """kafka-python would only retry for ever, and say that Kafka cannot be reached."""
    common = {"security_protocol": "SASL_SSL", "sasl_mechanism": mechanism}

    found = problems(minimal(kafka={"common": common}))

    assert set(found) == {
        "OAUTHBEARER": {"kafka.oauth.token_url"},
        "GSSAPI": set() if find_spec("gssapi") else {"kafka.common.sasl_mechanism"},
        "AWS_MSK_IAM": set() if find_spec("botocore") else {"kafka.common.sasl_mechanism"},
    }.get(mechanism, {"kafka.common.sasl_plain_username", "kafka.common.sasl_plain_password"})


def test_a_mechanism_that_does_not_exist_is_refused_with_those_that_do() -> None:
    common = {"security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM"}

    found = problems(minimal(kafka={"common": common}))

    assert "SCRAM-SHA-512" in found["kafka.common.sasl_mechanism"].remedy


def test_sasl_without_its_protocol_has_no_effect_and_is_refused() -> None:
    found = problems(at("kafka.common.sasl_mechanism", "PLAIN"))

    assert "without it sasl_mechanism has no effect" in found["kafka.common.security_protocol"].remedy


def test_all_problems_are_reported_at_once_however_they_are_found() -> None:
    """A value of a wrong kind, an unknown name, a missing setting, a contradiction, an option of Kafka, a variable."""
    data = minimal(
        kafka={"max_gap": "wide", "consumer": {"enable_auto_commit": True}, "handover_seconds": 30},
        app={"sdk_app_id": None, "secret_key_file": "/no/such/key"},
        limits={"calls_per_secnd": 100},
    )

    found = problems(data, {"WORKER_LOG__FORMAT": "xml"})

    assert set(found) == {
        "kafka.max_gap",
        "kafka.consumer.enable_auto_commit",
        "kafka.handover_seconds",
        f"{APP}.sdk_app_id",
        f"{APP}.secret_key_file",
        "limits.calls_per_secnd",
        "log.format",
    }


def test_nothing_at_all_names_what_must_be_said() -> None:
    assert {name: problem.remedy for name, problem in problems({}).items()} == dict.fromkeys(
        ("kafka", "tencent"),
        "is missing: give a mapping in the file that --config or WORKER_CONFIG names",
    )
    assert set(problems({"kafka": {}, "tencent": {}})) == {"kafka.bootstrap_servers", "tencent.apps"}


def test_what_was_refused_is_not_blamed_a_second_time() -> None:
    """A key that cannot be one is reported as invalid, and not as missing too."""
    assert set(problems(minimal(app={"secret_key": "", "region": "mars"}))) == {
        f"{APP}.secret_key",
        f"{APP}.region",
    }


_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from([KEY, "a:1", "info"]),
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3)
    ),
)
_NAMES = st.sampled_from([row.name.replace(NAME, "main") for row in rows()])


@given(st.dictionaries(_NAMES, _VALUES, max_size=5))
def test_any_file_is_loaded_or_refused_by_settings_names_without_the_key(
    changes: dict[str, Any],
) -> None:
    data = minimal()
    for name, value in changes.items():
        *above, last = name.split(".")
        holder: Any = data
        for word in above:
            holder = holder.setdefault(word, {}) if isinstance(holder, dict) else None
        if isinstance(holder, dict):
            holder[last] = value
    before = copy.deepcopy(data)

    found = problems(data)

    assert data == before or data != data  # noqa: PLR0124 - NaN is in it
    assert KEY not in "".join(problem.remedy for problem in found.values())
    secret_places = [
        problem for name, problem in found.items() if "secret_key" in name or "apps" in name.split(".")[-1:]
    ]
    assert all(KEY not in str(problem.value) for problem in secret_places)


@given(
    st.dictionaries(
        _NAMES,
        st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)
        | st.sampled_from([KEY, "{", "[1]", "null"]),
        max_size=5,
    )
)
def test_whatever_the_environment_holds_it_is_read_or_refused(changes: dict[str, str]) -> None:
    environ = {f"WORKER_{name.upper().replace('.', '__')}": text for name, text in changes.items()}

    problems(minimal(), environ)


def test_every_setting_has_a_description_and_a_rule() -> None:
    for row in table_of_rows().values():
        assert row.about, row.name
        assert row.rule, row.name


def test_every_default_is_well_by_the_rules_of_its_own_setting() -> None:
    """pydantic does not check defaults by itself."""
    data = minimal()
    for row in rows():
        if row.section is None and not row.required and NAME not in row.path and row.kind is not dict:
            holder = data
            for word in row.path[:-1]:
                holder = holder.setdefault(word, {})
            holder.setdefault(
                row.path[-1], list(row.default) if isinstance(row.default, tuple) else row.default
            )

    assert load(data).model_dump() == load(minimal()).model_dump()


def test_the_error_itself_tells_every_problem() -> None:
    with pytest.raises(SettingsError) as refused:
        load({})

    assert str(refused.value).count("is missing") == 2
