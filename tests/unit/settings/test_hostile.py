# Settings that would crash the worker later, hang its start, or end it with a traceback: each is refused, by its own name.

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml
import yarl
from hypothesis import given
from hypothesis import strategies as st
from kafka import KafkaConsumer, KafkaProducer
from kafka.net.inet import KafkaNetSocket

from tests.unit.settings.environment import KEY, minimal, problems
from worker.errors import SettingsError
from worker.settings import addresses, load
from worker.settings.addresses import PROXIES
from worker.settings.kafka_option_checks import OWNED
from worker.settings.kafka_option_values import RULES
from worker.settings.sources import FILE_BYTES, VALUES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

APP = "tencent.apps.main"
PATIENCE = 20.0
"""Seconds within which every refusal comes, on a busy machine too."""


def refused(path: Path | str, environ: dict[str, str] | None = None) -> str:
    """Why the file is refused, as one text that can be written anywhere."""
    began = time.monotonic()
    with pytest.raises(SettingsError) as error:
        load(path, environ or {})
    assert time.monotonic() - began < PATIENCE
    text = str(error.value)
    text.encode()
    assert len(text) < 5_000
    return text


def written(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "worker.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    "url",
    [
        "https://gateway.example\n",
        "https://gate\nway.example",
        "https://gate\tway.example",
        "https://gateway.example\0",
        " https://gateway.example",
        "https://gate way.example",
        "https://:pass@gateway.example",
        "https://@gateway.example",
        "https://gateway.example?",
        "https://gateway.example#",
        "https://gateway.example/;x",
        "https://gateway.example:",
        "https://gateway.example:0",
        "https://gateway.example:65536",
        "https://gateway.example:8e1",
        "https://gateway.example:-1",
        "https://gateway.example:\u0663",
        "https://gateway.example:80:80",
        "https://gateway..example",
        "https://-gateway.example",
        f"https://{'a' * 64}.example",
        f"https://{'a.' * 130}example",
        "https://münchen.example",
        "https://xn--a.example",
        "https://a。b",
        "https://256.1.1.1",
        "https://[::1",
        "https://[::1]x:80",
        "https://[fe80::1%25eth0]",
        "https://[gateway.example]",
        "https://gateway%2e.example",
        "https://gateway.example\\@other.example",
        "https:gateway.example",
        "https:///gateway.example",
    ],
)
def test_a_base_url_that_no_request_could_go_to_is_refused(url: str) -> None:
    """It would pass, and the first command would crash the worker after each restart."""
    found = problems(minimal(app={"region": None, "base_url": url}))

    assert set(found) == {f"{APP}.base_url"}
    assert "pass" not in str(found).replace(url.removeprefix("https://"), "")


@pytest.mark.parametrize(
    "url",
    [
        "https://gateway.example",
        "HTTPS://Gateway.Example:8443",
        "http://LOCALHOST:80",
        "https://[2001:db8::1]:8443/",
        "https://xn--mnchen-3ya.example",
        "https://gate_way.example.",
        "https://10.0.0.1",
    ],
)
def test_a_base_url_that_requests_can_go_to_is_taken(url: str) -> None:
    assert problems(minimal(app={"region": None, "base_url": url})) == {}


_PARTS = st.sampled_from(
    ["https://", "http://", "a", "xn--", "xn--mnchen-3ya", ".", "-", "_", "1", "0x7f", "127.0.0.1", "localhost", "[", "]", "::1", ":", "80", "/", "\\", "@", "%61", "?", "#", " ", "\n", "\0", "é"]
)  # fmt: skip


@given(st.lists(_PARTS, max_size=6).map(lambda parts: "https://" + "".join(parts)))
def test_every_base_url_that_is_taken_is_read_alike_by_all_that_will_read_it(url: str) -> None:
    try:
        taken = addresses.base_url(url)
    except ValueError:
        return
    read = httpx.URL(f"{taken}/v4/x")

    assert read.host == yarl.URL(f"{taken}/v4/x").host
    assert read.path == "/v4/x"


@pytest.mark.parametrize(
    "server",
    ["http://a:1", "user@a:1", "a b:1", "a\n:1", "::1:9092", "[::1:9092", "[a]:1", "a:0", "a:\uff19", "münchen:1", "a:1:2", ":1"],
)  # fmt: skip
def test_a_server_that_cannot_be_one_is_refused(server: str) -> None:
    assert set(problems(minimal(kafka={"bootstrap_servers": [server]}))) == {"kafka.bootstrap_servers"}


@pytest.mark.parametrize(
    "host", ["", "a b", "10.0.0.1:80", "a..b", "*", "\0", "host\n", "x" * 40_000, "http://a"]
)
def test_a_host_that_cannot_be_one_is_a_problem_of_the_host(host: str) -> None:
    assert set(problems(minimal(server={"host": host}))) == {"server.host"}


@pytest.mark.parametrize("name", ["group_id", "instance_id", "outcome_topic", "dead_letter_topic"])
@pytest.mark.parametrize("value", ["x" * 40_000, "a\nb", "\0", " a"])
def test_a_name_that_kafka_would_refuse_or_that_floods_the_log_is_refused(name: str, value: str) -> None:
    """A group_id of 40 kB passed, and made 6,000 lines of the library."""
    found = problems(minimal(kafka={name: value}))

    assert set(found) == {f"kafka.{name}"}
    assert len(str(found[f"kafka.{name}"])) < 1_000


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("consumer.max_poll_records", 0),
        ("consumer.max_poll_records", -1),
        ("consumer.max_poll_records", True),
        ("consumer.max_poll_records", 1.5),
        ("consumer.max_poll_records", float("nan")),
        ("consumer.max_poll_records", "500"),
        ("consumer.fetch_max_wait_ms", -1),
        ("consumer.fetch_max_wait_ms", 2**31),
        ("consumer.fetch_min_bytes", 0),
        ("consumer.max_partition_fetch_bytes", 10**30),
        ("consumer.session_timeout_ms", 0),
        ("consumer.client_rack", "a\nb"),
        ("producer.compression_type", "foo"),
        ("producer.compression_type", "none"),
        ("producer.compression_type", 4),
        ("producer.linger_ms", -5),
        ("producer.max_request_size", 0),
        ("producer.max_block_ms", 0),
        ("producer.acks", "some"),
        ("producer.security_protocol", "SSL"),
        ("consumer.sasl_mechanism", "foo"),
        ("common.security_protocol", "foo"),
        ("common.client_dns_lookup", "foo"),
        ("common.client_id", "x" * 40_000),
        ("common.metrics_num_samples", 0),
        ("common.request_timeout_ms", 0),
        ("common.reconnect_backoff_ms", 0),
        ("common.proxy_url", "foo"),
        ("common.proxy_url", "socks4://proxy:1080"),
        ("common.socks5_proxy", "socks5://proxy"),
        ("common.proxy_url", "http://proxy:port"),
        ("common.ssl_context", "x"),
        ("common.ssl_crlfile", "/etc/passwd"),
        ("common.selector", "epoll"),
        ("common.sasl_oauth_token_provider", "x"),
        ("common.no_such_option", 1),
        ("common.ssl_cafile", 7),
        ("common.ssl_cafile", "/etc/passwd"),
        ("common.ssl_cafile", "/dev/zero"),
        ("common.ssl_cafile", "\0"),
    ],
)
def test_a_value_that_kafka_python_would_not_take_is_refused_at_its_option(name: str, value: object) -> None:
    """It ended with exit code 1 and a traceback, or looped."""
    part, option = name.split(".")

    found = problems(minimal(kafka={part: {option: value}}))

    assert f"kafka.{name}" in found, found


@pytest.mark.parametrize("value", [[1], {"a": 1}, [["x"]]])
@pytest.mark.parametrize("option", ["max_poll_records", "client_rack", "session_timeout_ms"])
def test_an_option_of_a_wrong_kind_is_refused_at_its_option(option: str, value: object) -> None:
    assert set(problems(minimal(kafka={"consumer": {option: value}}))) <= {
        "kafka.consumer",
        f"kafka.consumer.{option}",
    }
    assert problems(minimal(kafka={"consumer": {option: value}}))


def test_every_option_of_kafka_python_is_somebodys() -> None:
    """One that a new release brings would be taken with any value."""
    theirs = KafkaConsumer.DEFAULT_CONFIG.keys() | KafkaProducer.DEFAULT_CONFIG.keys()

    assert RULES.keys() & OWNED.keys() == set()
    assert RULES.keys() | OWNED.keys() >= theirs
    assert RULES.keys() <= theirs


def test_every_value_that_kafka_python_has_by_default_is_well() -> None:
    for kind in (KafkaConsumer, KafkaProducer):
        for option, value in kind.DEFAULT_CONFIG.items():
            if option in RULES and value not in (None, ""):
                assert RULES[option].fits(value), option


def test_the_proxies_are_those_that_kafka_python_speaks_to() -> None:
    assert set(PROXIES) == KafkaNetSocket._registry.keys()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: &a [x, x]\nb: &b [*a, *a]\n" + "".join(
            f"{chr(99 + n)}: &{chr(99 + n)} [{', '.join([f'*{chr(98 + n)}'] * 9)}]\n" for n in range(12)), "aliases expand to more"),
        ("a: &a {k: 1}\n" + "".join(
            f"b{n}: &b{n} {{<<: [{', '.join(['*a' if not n else f'*b{n - 1}'] * 9)}]}}\n" for n in range(9)), "aliases expand to more"),
        ("a: &a [*a]", "an alias refers to what contains it"),
        ("kafka: &k {common: *k}", "an alias refers to what contains it"),
        ("a: [" + "x, " * VALUES + "]", "contains more than"),
        ("a: " + "[" * 100_000, "nested too deep"),
        ("a: " + "{b: " * 20 + "1" + "}" * 20, "nested too deep"),
        ("log: {level: !!bool maybe}", "not valid YAML"),
        ("log: {level: !!int ''}", "not valid YAML"),
        ("log: {level: !!float ''}", "not valid YAML"),
        ("log: {level: !!python/name:os.system }", "not valid YAML"),
        ("log: {level: !!python/object/apply:os.system [id]}", "not valid YAML"),
        ("log: {level: !secret x}", "not valid YAML"),
        ('log: {level: "\\ud800"}', "log.level: this value is not UTF-8"),
        ('"\\ud800": 1', "this name is not UTF-8"),
        ("drain_seconds: 0x" + "f" * 9_000, "drain_seconds"),
        ("kafka: {max_gap: 0x" + "f" * 9_000 + "}", "kafka.max_gap = a number beyond all bounds"),
        ("kafka: {consumer: {max_poll_records: 0x" + "f" * 9_000 + "}}", "a number beyond all bounds"),
        ("drain_seconds: " + "1:" * 3_000 + "1", "drain_seconds"),
        ("drain_seconds: " + "1:" * 100_000 + "1", "drain_seconds = a number beyond all bounds"),
        ("drain_seconds: -" + "1:" * 3_000 + "1.5", "drain_seconds = a number beyond all bounds"),
        ("drain_seconds: " + "1" * 5_000, "drain_seconds = a number beyond all bounds"),
        ("drain_seconds: 1." + "1" * 5_000, "drain_seconds = a number beyond all bounds"),
        ("drain_seconds: !!int '" + "1:" * 100_000 + "1'", "drain_seconds = a number beyond all bounds"),
        ("kafka: {group_id: " + "1" * 101 + "}", "kafka.group_id = a number beyond all bounds: give 1 to 249 bytes"),
        ("kafka: {consumer: {session_timeout_ms: 0x" + "f" * 400 + "}}", "kafka.consumer.session_timeout_ms = a number beyond all"),
        ("limits: {calls_per_second: 0200}", "begins with 0 as octal: leave the 0 out"),
        ("kafka: {common: {sasl_plain_password: -0_17}}", "or put a text into quotes at line 1"),
        ("drain_seconds: .nan", "drain_seconds"),
        ("drain_seconds: .inf", "drain_seconds"),
        ("drain_seconds: -1", "drain_seconds = -1"),
        ("drain_seconds: 1e400", "drain_seconds"),
        ("drain_seconds: true", "drain_seconds = True"),
        ("drain_seconds: soon", "drain_seconds = 'soon'"),
        ("drain_seconds: !!binary AAAA", "drain_seconds"),
        (f"? {'x' * 50_000}\n: 1", "there is no such setting"),
        ('"a\\e[31mb": 1', "there is no such setting"),
        ("log: {level: a, level: b}", "a key is repeated at line 1"),
        (f"log: {{level: {'x' * 50_000}}}", "log.level = 'xxx"),
        ("\0", "the character U+0000"),
        ("a: \x07", "the character U+0007"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)  # fmt: skip
def test_a_file_that_would_take_memory_time_or_the_process_is_refused(
    tmp_path: Path, text: str, reason: str
) -> None:
    found = refused(written(tmp_path, text))

    assert reason in found
    assert "\x1b" not in found


def test_a_megabyte_of_one_number_is_refused_at_once_and_hides_no_other_problem(tmp_path: Path) -> None:
    """PyYAML multiplies what it has so far by 60 for each of its parts: 42 seconds of a core."""
    text = f"drain_seconds: {'1:' * 500_000}1\nserver: {{port: {'1' * 20_000}}}\nlog: {{level: loud}}\n"
    began = time.process_time()

    found = refused(written(tmp_path, text))

    assert time.process_time() - began < 5
    for name in ("drain_seconds", "server.port", "log.level"):
        assert f"{name} = " in found


@pytest.mark.parametrize("number", ["9" * 100, "0." + "3" * 98, "0x" + "f" * 16])
def test_a_number_of_a_hundred_characters_is_read_as_it_is(tmp_path: Path, number: str) -> None:
    path = written(tmp_path, f"{yaml.safe_dump(minimal())}server: {{port: {number}}}\n")

    with pytest.raises(SettingsError) as error:
        load(path, {})

    (problem,) = error.value.problems
    assert problem.name == "server.port"
    assert problem.value == yaml.safe_load(number)


@pytest.mark.parametrize("option", ["session_timeout_ms", "heartbeat_interval_ms", "max_poll_interval_ms"])
@pytest.mark.parametrize("text", ["9" * 400, "-" + "9" * 400, "1e400", "true", "0", "null", '"x"'])
def test_a_timeout_is_refused_by_its_own_rule_before_anything_is_computed_of_it(
    option: str, text: str
) -> None:
    """Divided by a thousand, one beyond any float ended in a traceback; true was taken for a millisecond."""
    found = problems(minimal(), {f"WORKER_KAFKA__CONSUMER__{option.upper()}": text})

    assert set(found) == {f"kafka.consumer.{option}"}
    assert RULES[option].wanted in found[f"kafka.consumer.{option}"].remedy


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "latin-1"])
def test_a_file_that_is_not_utf_8_is_refused_as_that(tmp_path: Path, encoding: str) -> None:
    assert re.search(
        "UTF-8|not valid YAML", refused(written(tmp_path, "kafka: {group_id: é}".encode(encoding)))
    )


SPECIAL: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a directory": os.mkdir,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "no such file": lambda _: None,
    "too many levels": lambda path: path.symlink_to(path),
}


def made(tmp_path: Path, kind: str) -> Path:
    path = tmp_path / "special"
    SPECIAL[kind](path)
    return path


@pytest.mark.parametrize("kind", SPECIAL)
def test_a_file_that_is_none_is_not_waited_for(tmp_path: Path, kind: str) -> None:
    """A pipe without a writer, and /dev/zero, hung the start for ever."""
    path = made(tmp_path, kind)
    sasl = {"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "sasl_plain_username": "u"}

    assert kind in refused(path)
    key = problems(minimal(app={"secret_key": None, "secret_key_file": str(path)}))
    password = problems(minimal(kafka={"common": {**sasl, "sasl_plain_password_file": str(path)}}))
    ca = problems(minimal(kafka={"common": {"security_protocol": "SSL", "ssl_cafile": str(path)}}))

    assert kind in key[f"{APP}.secret_key_file"].remedy
    assert kind in password["kafka.common.sasl_plain_password_file"].remedy
    assert kind in ca["kafka.common.ssl_cafile"].remedy


def test_a_file_of_a_gigabyte_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    sasl = {"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "sasl_plain_username": "u"}

    found = {
        **problems(minimal(app={"secret_key": None, "secret_key_file": str(path)})),
        **problems(minimal(kafka={"common": {**sasl, "sasl_plain_password_file": str(path)}})),
        **problems(minimal(kafka={"common": {"security_protocol": "SSL", "ssl_cafile": str(path)}})),
    }

    assert f"more than {FILE_BYTES:,} bytes" in refused(path)
    assert len(found) == 3
    assert all("so it is the wrong file" in problem.remedy for problem in found.values())


def test_a_file_without_the_right_to_read_it_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "")
    path.chmod(0)
    before = os.geteuid()
    if before == 0:  # who may read everything
        os.seteuid(65_534)

    try:
        found = refused(path)
    finally:
        os.seteuid(before)

    assert "permission denied" in found


@pytest.mark.parametrize(
    ("variable", "text", "reason"),
    [
        ("WORKER_KAFKA__COMMON", "[" * 100_000, "kafka.common: this variable's JSON is nested too deep"),
        ("WORKER_KAFKA__COMMON", '{"a":' * 50_000, "kafka.common: "),  # Python 3.14 reads to its end, and finds it unfinished
        ("WORKER_KAFKA__COMMON", "[" * 30 + "]" * 30, "kafka.common: it is nested too deep"),
        ("WORKER_KAFKA__COMMON", '{"client_id": "a", "client_id": "b"}', "kafka.common: a name is repeated"),
        ("WORKER_KAFKA__COMMON", '{"client_id": "\\ud800"}', "kafka.common.client_id: this value is not UTF-8"),
        ("WORKER_KAFKA__COMMON__SASL_PLAIN_PASSWORD", os.fsdecode(b"pass\xff"), "sasl_plain_password: this value is not UTF-8"),
        ("WORKER_KAFKA__GROUP_ID", os.fsdecode(b"\xe9"), "kafka.group_id: this value is not UTF-8"),
        ("WORKER_TENCENT__APPS__MAIN__SECRET_KEY", os.fsdecode(b"\xff"), f"{APP}.secret_key: this value is not UTF-8"),
        (os.fsdecode(b"WORKER_LOG__L\xe9VEL"), "info", "this name is not UTF-8"),
        (os.fsdecode(b"WORKER_TENCENT__APPS__M\xff__REGION"), "seoul", "this name is not UTF-8"),
        ("WORKER_" + "__A" * 40_000, "1", "there is no such setting"),
        ("WORKER_" + "A" * 100_000, "1", "there is no such setting"),
        ("WORKER_DRAIN_SECONDS", "1e400", "drain_seconds"),
        ("WORKER_DRAIN_SECONDS", "Infinity", "drain_seconds"),
        ("WORKER_DRAIN_SECONDS", "NaN", "drain_seconds"),
        ("WORKER_DRAIN_SECONDS", "-Infinity", "drain_seconds"),
        ("WORKER_DRAIN_SECONDS", "9" * 5_000, "drain_seconds"),
        ("WORKER_DRAIN_SECONDS", "9" * 4_000, "drain_seconds"),
        ("WORKER_DRAIN_SECONDS", "", "drain_seconds"),
        ("WORKER_DRAIN_SECONDS", "true", "drain_seconds = True"),
        ("WORKER_KAFKA__MAX_GAP", "9" * 4_000, "kafka.max_gap"),
        ("WORKER_KAFKA", "x", "kafka"),
        ("WORKER_", "x", "there is no such setting"),
        ("WORKER___", "x", "there is no such setting"),
    ],
    ids=lambda value: value[:24].encode("ascii", "backslashreplace").decode(),
)  # fmt: skip
def test_a_variable_that_would_end_in_a_traceback_is_refused_by_its_name(
    tmp_path: Path, variable: str, text: str, reason: str
) -> None:
    found = refused(written(tmp_path, ""), {variable: text})

    assert reason in found
    assert "pass\ufffd" not in found


def test_two_variables_that_are_nested_alike_are_not_merged_without_end(tmp_path: Path) -> None:
    """Python 3.13 reads far deeper JSON than its functions may call themselves."""
    deep = '{"a":' * 9_000 + "1" + "}" * 9_000

    found = refused(
        written(tmp_path, ""), {"WORKER_KAFKA": f'{{"common":{deep}}}', "WORKER_KAFKA__COMMON": deep}
    )

    assert "nested too deep" in found


def test_a_path_of_settings_that_no_file_can_have_is_refused() -> None:
    assert "cannot be read" in refused("a\0b")
    assert "cannot be read" in refused(os.fsdecode(b"/no/\xff"))


BOM = b"\xef\xbb\xbf"


def test_byte_order_marks_and_line_ends_are_not_part_of_settings_keys_or_passwords(
    tmp_path: Path,
) -> None:
    (tmp_path / "key").write_bytes(BOM + KEY.encode() + b"\r\n")
    (tmp_path / "password").write_bytes(BOM + b"hunter2 \r\n")
    common = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN", "sasl_plain_username": "u", "sasl_plain_password_file": str(tmp_path / "password")}  # fmt: skip
    data = minimal(
        kafka={"common": common}, app={"secret_key": None, "secret_key_file": str(tmp_path / "key")}
    )
    path = written(tmp_path, BOM + str(data).encode() + b"\r\n")

    settings = load(path, {})

    assert settings.tencent.apps["main"].key() == KEY
    assert settings.kafka.options()["sasl_plain_password"] == "hunter2 "


def test_a_relative_path_in_a_file_is_taken_from_where_that_file_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker is started from anywhere; what lies beside its settings is meant."""
    place = tmp_path / "etc"
    (place / "secrets").mkdir(parents=True)
    (place / "secrets" / "key").write_text(KEY)
    (place / "password").write_text("hunter2")
    (tmp_path / "password").write_text("another")
    common = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN", "sasl_plain_username": "u", "sasl_plain_password_file": "password"}  # fmt: skip
    data: dict[str, Any] = minimal(
        kafka={"common": common}, app={"secret_key": None, "secret_key_file": "secrets/key"}
    )
    written(place, str(data))
    monkeypatch.chdir(tmp_path)

    settings = load("etc/worker.yaml", {})
    monkeypatch.chdir("/")

    assert settings.tencent.apps["main"].key() == KEY
    assert settings.kafka.options()["sasl_plain_password"] == "hunter2"


def test_a_relative_path_in_a_file_is_never_taken_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the worker starts must not depend on where it is started, and another file of that name may be there."""
    (tmp_path / "etc").mkdir()
    for name in ("key", "ca.crt"):
        (tmp_path / name).write_text(KEY)
    monkeypatch.chdir(tmp_path)
    common = {"security_protocol": "SSL", "ssl_cafile": "ca.crt"}
    data: dict[str, Any] = minimal(
        kafka={"common": common}, app={"secret_key": None, "secret_key_file": "key"}
    )

    with pytest.raises(SettingsError) as refused:
        load(written(tmp_path / "etc", str(data)), {})

    assert {problem.name: problem.value for problem in refused.value.problems} == {
        "tencent.apps.main.secret_key_file": None,  # a single word may be the key itself
        "kafka.common.ssl_cafile": f"{tmp_path}/etc/ca.crt",
    }


def test_a_relative_path_in_a_variable_is_taken_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "key").write_text(KEY)
    monkeypatch.chdir(tmp_path)
    data: dict[str, Any] = minimal(app={"secret_key": None, "secret_key_file": "nowhere"})

    settings = load(
        written(tmp_path / "etc", str(data)), {"WORKER_TENCENT__APPS__MAIN__SECRET_KEY_FILE": "key"}
    )

    assert settings.tencent.apps["main"].key() == KEY


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"common": {"foo": [1], "bar": {"a": 1}}}, {"kafka.common.foo", "kafka.common.bar"}),
        ({"consumer": {"client_rack": [1]}}, {"kafka.consumer.client_rack"}),
        ({"bootstrap_servers": ["a:0", "b:x", "-"]}, {"kafka.bootstrap_servers"}),
        ({"command_topics": ["a b", "c d"]}, {"kafka.command_topics"}),
    ],
)
def test_several_faults_of_one_value_hide_no_other_problem_and_make_none(
    wrong: dict[str, object], named: set[str]
) -> None:
    """The second took the whole section out, so its contradictions were reported one start later."""
    data = minimal(kafka={"max_gap": 1, **wrong}, dedupe={"window_seconds": 0}, drain_seconds=300)

    assert set(problems(data)) == {"kafka.max_gap", "dedupe.window_seconds", "drain_seconds", *named}


def test_several_wrong_users_are_one_problem_and_do_not_cost_the_apps() -> None:
    """It went on to say that no app was named, which was not so."""
    data = minimal()
    data["tencent"]["protected_users"] = [1, 2, 3]

    assert set(problems(data)) == {"tencent.protected_users"}


@pytest.mark.parametrize("hidden", ["\u3164", "\ufe0f", "\U000e0041", "\u200b", "\u115f", "\U0001d159"])
def test_a_name_with_what_nobody_sees_is_refused_as_in_a_command(hidden: str) -> None:
    """A protected user whose id holds a filler is not the one that is meant, and would not be protected."""
    data = minimal(kafka={"group_id": f"a{hidden}"}, app={"identifier": f"admin{hidden}"})
    data["tencent"]["protected_users"] = [f"boss{hidden}"]

    found = problems(data)

    assert set(found) == {"kafka.group_id", "tencent.protected_users", "tencent.apps.main.identifier"}
    assert all(f"U+{ord(hidden):04X}" in problem.remedy for problem in found.values())


@pytest.mark.parametrize("key", ['"{}"', "'{}'", "{}'"])
def test_a_key_in_quotation_marks_is_refused(tmp_path: Path, key: str) -> None:
    """It would sign, and Tencent would refuse every call."""
    (tmp_path / "key").write_text(key.format(KEY))
    file = minimal(app={"secret_key": None, "secret_key_file": str(tmp_path / "key")})

    assert set(problems(file)) == {"tencent.apps.main.secret_key_file"}
    assert set(problems(minimal(app={"secret_key": key.format(KEY)}))) == {"tencent.apps.main.secret_key"}


def test_a_password_file_with_a_nul_is_refused_as_the_password_would_be(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("pass\0word\n")
    common = {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "PLAIN",
        "sasl_plain_username": "u",
        "sasl_plain_password_file": str(tmp_path / "password"),
    }

    assert set(problems(minimal(kafka={"common": common}))) == {"kafka.common.sasl_plain_password_file"}


@pytest.mark.parametrize("variable", ["WORKER_", "WORKER_KAFKA__", "WORKER___X", "WORKER__KAFKA____X"])
def test_a_variable_without_a_word_is_named_as_it_was_written(variable: str) -> None:
    """Nothing was shown in the place of its name."""
    assert set(problems(minimal(), {variable: "1"})) == {variable}
