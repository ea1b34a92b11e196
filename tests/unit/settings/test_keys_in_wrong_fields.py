# A key in a field where it does not belong appears in no error, whichever way the error is printed.

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.unit.settings.environment import KEY, load, minimal
from worker.cli.app import format_problems, main
from worker.errors import SettingProblem, SettingsError
from worker.redaction import HIDDEN

if TYPE_CHECKING:
    from pathlib import Path

BASE64_KEY = "Zm9vYmFyMTIzNDU2Nzg5MGFiY2RlZmdoaWprbG1ub3A="


def with_app(**app: object) -> dict[str, Any]:
    return minimal(app=app)


def named(word: str) -> dict[str, Any]:
    data = minimal()
    data["tencent"]["apps"] = {word: data["tencent"]["apps"]["main"]}
    return data


WRONG: dict[str, dict[str, Any]] = {
    "identifier": with_app(identifier=KEY),
    "identifier, with a blank": with_app(identifier=f" {KEY}"),
    "sdk_app_id": with_app(sdk_app_id=KEY),
    "sdk_app_id, as a number": with_app(sdk_app_id=int(KEY, 16)),
    "region": with_app(region=KEY),
    "region, in base64": with_app(region=BASE64_KEY),
    "beside secret_key_file": with_app(secret_key_file=f"/run/{KEY}"),
    "as secret_key_file": with_app(secret_key=None, secret_key_file=KEY),
    "as secret_key_file, in base64": with_app(secret_key=None, secret_key_file=BASE64_KEY),
    "base_url": with_app(region=None, base_url=KEY),
    "the path of base_url": with_app(region=None, base_url=f"https://console.tim.qq.com/{KEY}"),
    "the query of base_url": with_app(region=None, base_url=f"https://console.tim.qq.com?key={KEY}"),
    "plain http": with_app(region=None, base_url=f"http://{KEY[:60]}.example"),
    "a list": with_app(identifier=[KEY]),
    "an unknown name": with_app(**{KEY: 1}),
    "an unknown name's value": with_app(secretkey=KEY),
    "an app's name": named(KEY),
    "an app's name that is none": named(f"{KEY} {KEY}"),
    "the default app": {**minimal(), "tencent": {**minimal()["tencent"], "default_app": KEY}},
    "a section": {**minimal(), KEY: {}},
    "a protected user": {**minimal(), "tencent": {**minimal()["tencent"], "protected_users": [KEY]}},
    "kafka.common": minimal(kafka={"common": {KEY: "x"}}),
    "a value of kafka.common": minimal(kafka={"common": {"security_protocol": KEY}}),
    "sasl_mechanism": minimal(
        kafka={"common": {"security_protocol": "SASL_SSL", "sasl_mechanism": KEY, "sasl_plain_username": "u"}}
    ),
    "an owned option": minimal(kafka={"consumer": {"group_id": KEY}}),
    "ssl_cafile": minimal(kafka={"common": {"security_protocol": "SSL", "ssl_cafile": f"/{KEY}"}}),
    "a server": minimal(kafka={"bootstrap_servers": [KEY]}),
    "a topic": minimal(kafka={"command_topics": [f"{KEY} "]}),
    "start": minimal(kafka={"start": KEY}),
    "log.level": minimal(log={"level": KEY}),
    "server.port": minimal(server={"port": KEY}),
    "an endpoint": minimal(limits={"per_endpoint": {KEY: 5}}),
}


@pytest.mark.parametrize("where", WRONG)
def test_no_error_shows_a_key_that_is_in_the_wrong_field(where: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load(WRONG[where])

    assert_hidden(refused.value)


@pytest.mark.parametrize(
    "variable",
    [
        f"WORKER_{KEY}",
        f"WORKER_{KEY.upper()}",
        f"WORKER_TENCENT__APPS__{KEY}__REGION",
        f"WORKER_KAFKA__COMMON__{KEY}",
        f"WORKER_TENCENT__APPS__MAIN__{KEY}",
    ],
)
def test_no_error_shows_a_key_that_is_a_variables_name(variable: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load(minimal(), {variable: "x"})

    assert_hidden(refused.value)


def test_an_app_may_not_be_called_by_its_key() -> None:
    """A name is in every metric and in the log's first line."""
    with pytest.raises(SettingsError, match="looks like a key"):
        load(named(KEY))


def assert_hidden(error: SettingsError) -> None:
    for text in (str(error), repr(error), format_problems(error), *map(str, error.problems)):
        lowered = text.lower()
        for secret in (KEY, BASE64_KEY, str(int(KEY, 16))):
            assert secret[:16].lower() not in lowered
            assert secret[20:40].lower() not in lowered


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--config", KEY],
        ["run", KEY],
        ["check", f"--{KEY}"],
        [KEY],
        ["outcomes", "--limit", KEY],
        ["outcomes", "--user", "u", "--since", KEY],
        ["topics", KEY],
        ["simulate", "--port", KEY],
        ["simulate", "--sdk-app-id", KEY],
    ],
    ids=lambda arguments: " ".join(arguments).replace(KEY, "KEY"),
)
def test_the_command_line_does_not_repeat_a_key(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The terminal's own echo cannot be helped, but standard error goes into logs."""
    monkeypatch.setattr(sys, "argv", ["moderation-worker", *arguments])

    with pytest.raises(SystemExit) as ended:
        main()

    shown = capsys.readouterr()
    assert ended.value.code == 2
    assert "Error" in shown.err or HIDDEN in shown.err
    assert KEY[:16] not in shown.err + shown.out


@pytest.mark.parametrize("uuid", ["7c13c129-1aa3-4ded-a7f7-989c40884556", "7c13c1291aa34deda7f7989c40884556"])
@pytest.mark.parametrize("options", [[], ["--json"]], ids=["text", "json"])
def test_an_argument_that_is_a_uuid_is_named_where_it_is_refused(
    uuid: str, options: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Most ids look like this: "unexpected extra argument ([redacted])" did not say which word was wrong."""
    monkeypatch.setattr(sys, "argv", ["moderation-worker", "outcomes", uuid, *options])

    with pytest.raises(SystemExit):
        main()

    assert uuid in capsys.readouterr().err


def test_a_refused_argument_with_a_key_leaves_the_json_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line break before the key was an escape, of which the key took the letter."""
    monkeypatch.setattr(sys, "argv", ["moderation-worker", "outcomes", "--json", "--action", f"é\n{KEY}"])

    with pytest.raises(SystemExit):
        main()

    printed = capsys.readouterr().err
    (problem,) = json.loads(printed)["problems"]
    assert problem["setting"] == "--action"
    assert "é" in problem["remedy"]
    assert HIDDEN in problem["remedy"]
    assert KEY[:16] not in printed


UNBAN = {"command_id": "c", "action": "group.unban_group_member", "group_id": "g", "user_ids": ["u"]}


@pytest.fixture
def offline(tmp_path: Path) -> Path:
    """Settings that are well."""
    path = tmp_path / "worker.yaml"
    path.write_text(yaml.safe_dump(minimal()))
    return path


@pytest.mark.parametrize("as_json", [(), ("--json",)], ids=["text", "json"])
@pytest.mark.parametrize(
    "wrong",
    [
        {"action": KEY},
        {KEY: 1},
        {"app": KEY},
        {"member_info": {KEY: 1}},
        {"priority": KEY},
        {"user_ids": [KEY]},
        {BASE64_KEY: 1},
    ],
    ids=str,
)
def test_a_command_that_is_refused_does_not_repeat_a_key_in_it(
    wrong: dict[str, Any], as_json: tuple[str, ...], offline: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """With --json half of it was on standard output, which is not filtered as a whole."""
    commands = offline.with_name("commands.jsonl")
    commands.write_text(json.dumps(UNBAN | wrong) + "\n")
    arguments = ["send", str(commands), "--config", str(offline), "--dry-run", *as_json]
    monkeypatch.setattr(sys, "argv", ["moderation-worker", *arguments])

    with pytest.raises(SystemExit) as ended:
        main()

    shown = capsys.readouterr()
    assert ended.value.code == 2
    assert all(key[:12] not in shown.err + shown.out for key in (KEY, BASE64_KEY))
    assert not as_json or json.loads(shown.out.splitlines()[0])["status"] == "invalid"


@pytest.mark.parametrize("as_json", [(), ("--json",)], ids=["text", "json"])
@pytest.mark.parametrize(
    "arguments",
    [
        [KEY],
        ["outcomes", f"--{KEY}"],
        ["outcomes", "--status", KEY],
        ["outcomes", "--limit", KEY],
        ["send", "--dry-run", "--action", KEY, "--user", "u"],
        ["pause", "--reason", "x", "--app", KEY],
        ["check", "--config", KEY],
    ],
    ids=lambda arguments: " ".join(arguments).replace(KEY, "KEY"),
)
def test_a_terminal_that_takes_ascii_alone_is_shown_no_key_either(
    arguments: list[str], as_json: tuple[str, ...], offline: Path
) -> None:
    """Where the encoding is ASCII (LANG=C in a cron job), click writes past what hides keys, into the stream below it."""
    done = subprocess.run(
        [sys.executable, "-m", "worker", *arguments, *as_json],
        env={"WORKER_CONFIG": str(offline), "PYTHONIOENCODING": "ascii"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert done.returncode == 2
    assert HIDDEN in done.stdout + done.stderr or "Input should be" in done.stderr
    assert KEY[:12] not in done.stdout + done.stderr


def test_what_does_not_look_like_a_key_is_shown_as_it_is() -> None:
    problem = SettingProblem("kafka.max_gap", "give a whole number from 100 to 24576", 99)

    assert str(problem) == "kafka.max_gap = 99: give a whole number from 100 to 24576"
    assert SettingProblem("x", "y", ["a", 1]).value == ["a", 1]
