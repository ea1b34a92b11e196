# What all commands share: groups in the help, JSON for scripts, pipes that end, colours, completion.

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import typer.main
from typer.testing import CliRunner

from worker.cli.app import COMMANDS, app
from worker.cli.text_wrapping import in_columns, wrapped

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 60.0
OFFLINE = (
    "kafka: {bootstrap_servers: ['127.0.0.1:1'], common: {bootstrap_timeout_ms: 200}}\n"
    "tencent: {apps: {main: {sdk_app_id: 1, identifier: a, secret_key: key, region: seoul}}}\n"
)


def worker(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "worker", *arguments],
        env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip


def script(shell: str) -> str:
    result = CliRunner().invoke(app, ["completion", shell], prog_name="moderation-worker")
    assert result.exit_code == 0
    return result.output


def test_the_help_lists_every_command_below_its_group() -> None:
    text = CliRunner().invoke(app, ["--help"], terminal_width=80).output

    groups = list(dict.fromkeys(group for group, _ in COMMANDS))
    assert [text.index(f"\n{group}:\n") for group in groups] == sorted(
        text.index(f"\n{group}:\n") for group in groups
    )
    assert "..." not in text.partition("[ARGS]...")[2]  # no sentence is cut


@pytest.mark.parametrize(
    "arguments",
    [
        ("--version",),
        ("--help",),
        ("outcomes", "--help"),
        ("simulate", "--reference"),
        ("completion", "bash"),
    ],
)
def test_a_command_whose_reader_has_gone_ends_quietly_with_141(arguments: tuple[str, ...]) -> None:
    """As `| head` does it. It ended with a complaint of the interpreter, or as a failure."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "worker", *arguments],
        stdout=write, stderr=subprocess.PIPE, timeout=PATIENCE, check=False,
    )  # fmt: skip
    os.close(write)

    assert (done.returncode, done.stderr) == (141, b"")


def test_a_check_whose_reader_has_gone_ends_quietly_with_141(tmp_path: Path) -> None:
    """What prints in colours ended as a failure, and a script took the settings for wrong."""
    (tmp_path / "worker.yaml").write_text(OFFLINE)
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "worker", "check", "--config", str(tmp_path / "worker.yaml")],
        stdout=write, stderr=subprocess.PIPE, timeout=PATIENCE, check=False, env={},
    )  # fmt: skip
    os.close(write)

    assert (done.returncode, done.stderr) == (141, b"")


def test_with_json_wrong_settings_are_one_object_on_standard_error() -> None:
    done = worker("check", "--json", WORKER_LOG__FORMAT="xml")

    said = json.loads(done.stderr)
    assert (done.returncode, done.stdout) == (2, "")
    assert {"setting": "log.format = 'xml'", "remedy": "give json or console"} in said["problems"]


@pytest.mark.parametrize(
    ("arguments", "setting", "remedy"),
    [
        (("outcomes", "--since", "yesterday"), "--since", "give 90s, 30m"),
        (("outcomes", "--limit", "0"), "--limit", "greater than or equal to 1"),
        (("outcomes", "--ladder"), "outcomes", "No such option: --ladder"),
        (("pause", "--everything"), "--reason", "Missing option '--reason'"),
        (("pause", "--reason", "x"), "pause", "--everything for all commands"),
        (("dead-letters", "list", "--by", "room"), "--by", "there are code"),
        (("outkomes",), "worker", "No such command 'outkomes'"),
        (("undo", "--send=yes"), "--send", "does not take a value"),
    ],
)
def test_with_json_wrong_arguments_are_one_object_on_standard_error(
    arguments: tuple[str, ...], setting: str, remedy: str
) -> None:
    done = worker(*arguments, "--json")

    (problem,) = json.loads(done.stderr)["problems"]
    assert (done.returncode, done.stdout) == (2, "")
    assert problem["setting"].endswith(setting)
    assert remedy in problem["remedy"]


def test_with_json_a_failure_is_one_object_on_standard_error(tmp_path: Path) -> None:
    (tmp_path / "worker.yaml").write_text(OFFLINE)

    done = worker("outcomes", "--user", "u", "--json", "--config", str(tmp_path / "worker.yaml"))

    assert (done.returncode, done.stdout) == (1, "")
    assert "127.0.0.1:1" in json.loads(done.stderr)["error"]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_json_is_json_whatever_the_encoding_of_the_output(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "worker.yaml").write_text(OFFLINE)
    command_id = "é🤖-1"

    done = subprocess.run(
        [sys.executable, "-m", "worker", "send", "--dry-run", "--json", "--config", str(tmp_path / "worker.yaml"),
         "--action", "group.unban_group_member", "--group-id", "g", "--user", "u", "--command-id", command_id],
        env={"PYTHONIOENCODING": encoding}, capture_output=True, timeout=PATIENCE, check=True,
    )  # fmt: skip

    assert json.loads(done.stdout.decode(encoding))["command_id"] == command_id


def test_with_json_each_finding_of_check_is_an_object(tmp_path: Path) -> None:
    (tmp_path / "worker.yaml").write_text(OFFLINE)

    done = worker("check", "--json", "--config", str(tmp_path / "worker.yaml"))

    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(each["what"], each["ok"]) for each in found] == [
        ("settings", True),
        ("app main", True),
        ("kafka", False),
    ]
    assert done.returncode == 1


@pytest.mark.parametrize(("variable", "coloured"), [("LANG", True), ("NO_COLOR", False)])
def test_colours_are_where_a_terminal_is_and_not_refused(
    variable: str, coloured: bool, tmp_path: Path
) -> None:
    (tmp_path / "worker.yaml").write_text(OFFLINE)
    here, there = pty.openpty()
    done = subprocess.Popen(
        [sys.executable, "-m", "worker", "check", "--config", str(tmp_path / "worker.yaml")],
        env={variable: "C", "TERM": "xterm", "COLUMNS": "60"}, stdout=there, stderr=there,
    )  # fmt: skip
    os.close(there)
    shown = b""
    while b"fix" not in shown:
        shown += os.read(here, 4096)
    done.wait(PATIENCE)
    os.close(here)

    assert (b"\x1b[32m" in shown) is coloured


def test_words_are_wrapped_and_never_cut() -> None:
    name = "moderation.commands-3-1234567890"

    assert wrapped(f"see {name} and {name}", 20, "  ") == f"  see\n  {name}\n  and\n  {name}"
    assert wrapped("as it is, in a file", None, "  ") == "  as it is, in a file"


def test_the_last_column_is_wrapped_and_goes_below_where_it_would_be_narrow() -> None:
    rows = [("ok", "topic", "a sentence of some words that goes on"), ("fix", "x", "")]

    assert in_columns(rows, None) == ["ok   topic  a sentence of some words that goes on", "fix  x"]
    assert in_columns(rows, 42) == [
        "ok   topic  a sentence of some words that\n            goes on",
        "fix  x",
    ]
    assert in_columns(rows, 30) == ["ok   topic\n    a sentence of some words\n    that goes on", "fix  x"]


BASH = """
source /dev/stdin
try() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _moderation_worker; (IFS=,; echo "${COMPREPLY[*]}"); }
try moderation-worker si
try moderation-worker topics ""
try moderation-worker topics create --part
try moderation-worker check --config "$PWD/with b"
try moderation-worker simulate --key ""
try moderation-worker completion z
"""


def test_bash_completes_commands_options_and_files_but_no_key(tmp_path: Path) -> None:
    (tmp_path / "with blank.yaml").touch()

    done = subprocess.run(
        ["bash", "--norc", "-c", BASH], input=script("bash"), cwd=tmp_path, env={"PWD": str(tmp_path), "PATH": os.defpath},
        capture_output=True, text=True, timeout=PATIENCE, check=True,
    )  # fmt: skip

    assert done.stdout.splitlines() == [
        "simulate",
        "create,--help",
        "--partitions",
        f"{tmp_path}/with blank.yaml",
        "",
        "zsh",
    ]
    assert done.stderr == ""


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_script_of_each_other_shell_is_valid_there(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed here: its script has the same tables as bash's")
    (tmp_path / "script").write_text(script(shell))

    done = subprocess.run(
        [shell, "-n", str(tmp_path / "script")], capture_output=True, text=True, timeout=PATIENCE, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_names_every_command_and_starts_no_program(
    shell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that is started to complete has the whole line in its arguments, where others can read a key."""
    monkeypatch.setenv("MODERATION_SIMULATOR_KEY", "s3cr3t-of-the-simulator")
    text = script(shell)

    assert set(typer.main.get_command(app).commands) <= set(text.replace('"', " ").replace("'", " ").split())  # type: ignore[attr-defined]
    assert "s3cr3t" not in text
    assert not re.search(r"[(`] *(env |_MODERATION\w*=|moderation-worker )", text)
