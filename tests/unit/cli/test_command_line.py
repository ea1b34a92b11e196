# The command line: what it says, how it ends, and what it does not load.

from __future__ import annotations

import importlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import typer.main
from typer.testing import CliRunner

from worker import __version__
from worker.cli.app import COMMANDS as TABLE
from worker.cli.app import app, main
from worker.cli.help_groups import OnceEach

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SEND: Any = importlib.import_module("worker.cli.send")
PROGRAM: Any = typer.main.get_command(app)
GROUPS = [name for name, command in PROGRAM.commands.items() if hasattr(command, "commands")]
COMMANDS = [name for name in PROGRAM.commands if name not in GROUPS] + [
    f"{name} {each}" for name in GROUPS for each in PROGRAM.commands[name].commands
]
"""Every command, those of the groups (``topics create``) among them."""


def invoke(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, arguments, prog_name="moderation-worker")
    return result.exit_code, result.output


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )


def test_the_version_is_printed() -> None:
    assert invoke("--version") == (0, f"moderation-worker {__version__}\n")


def test_the_help_names_every_command() -> None:
    code, text = invoke("--help")

    assert code == 0
    assert len(PROGRAM.commands) == len(TABLE)
    for command in PROGRAM.commands:
        assert re.search(rf"^  {command} ", text, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_says_what_it_does_with_an_example(command: str) -> None:
    code, text = invoke(*command.split(), "--help")

    assert code == 0
    assert f"moderation-worker {command}" in " ".join(text.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_each_option_says_what_it_wants_and_not_which_type_it_has(command: str) -> None:
    _, text = invoke(*command.split(), "--help")

    assert re.findall(r"--[a-z-]+ <.*?>", text) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_refuses_an_option_that_is_given_twice(command: str) -> None:
    """Each is told so where it is added to the program, which is easily forgotten."""
    found = PROGRAM
    for word in command.split():
        found = found.commands[word]

    assert isinstance(found, OnceEach)


@pytest.mark.parametrize("command", ["outcomes", "topics create"])
def test_an_example_is_one_line_that_can_be_copied(command: str) -> None:
    _, text = invoke(*command.split(), "--help")

    lines = text.splitlines()
    example = lines[next(place for place, line in enumerate(lines) if "Example:" in line) + 1]
    assert example.endswith((" --since 2h", " --partitions 12"))


@pytest.mark.parametrize("command", ["", *GROUPS, *COMMANDS])
def test_the_help_of_each_command_fits_a_terminal_of_80_columns(command: str) -> None:
    """A line that wraps cannot be copied."""
    result = CliRunner().invoke(app, [*command.split(), "--help"], terminal_width=80)

    assert [line for line in result.output.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize(
    ("redirection", "code"),
    [
        ("check --config /nowhere 2>/dev/full", 2),
        ("check --config /nowhere 2>&-", 2),
        ("check --config /nowhere >&- 2>&-", 2),
        ("--version >/dev/full", 1),
        ("simulate --reference >/dev/full", 1),
    ],
)
def test_the_exit_code_is_right_although_nothing_can_be_written(redirection: str, code: int) -> None:
    """A message that cannot be written made of wrong settings (2) a failure (1), and of a full disk a traceback."""
    ended = subprocess.run(
        ["/bin/sh", "-c", f"exec {shlex.quote(sys.executable)} -m worker {redirection}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode == code
    assert "Traceback" not in ended.stderr
    if code == 1:
        assert (
            ended.stderr
            == "moderation-worker failed: its output cannot be written: No space left on device\n"
        )


@pytest.mark.parametrize(
    "arguments",
    [
        ("walk",),
        ("run", "--confg", "x"),
        ("topics", "create", "--partitions", "0"),
        ("demo", "--bootstrap-servers", ""),
        ("demo", "--json", "/no/such/folder/summary.json"),
        ("demo", "--json", "/"),
        ("send", "--action", "x", "--metadata", "[]"),
        ("send", "--action", "x", "--metadata", "null"),
    ],
)
def test_wrong_arguments_end_with_2(arguments: tuple[str, ...]) -> None:
    assert invoke(*arguments)[0] == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("pause", "--issuer", "a", "--reason", "x", "--issuer", "b"),
        ("cancel", "--target=a", "--target=b", "--reason", "x"),
        ("resume", "--action", "group.ban_group_member", "--action", "live.unban_member", "--reason", "x"),
        ("send", "--group-id", "a", "--group-id", "b"),
        ("undo", "--since", "1h", "--since", "2h"),
        ("dead-letters", "list", "--until", "1h", "--until", "2h"),
        ("topics", "create", "-c", "a", "--config", "b"),
    ],
)
def test_an_option_with_one_value_that_is_given_twice_is_refused(arguments: tuple[str, ...]) -> None:
    """The last would be taken and the others ignored: of two issuers only one would be paused."""
    code, text = invoke(*arguments)

    assert code == 2
    assert "it is given twice" in text


def test_metadata_that_is_refused_is_told_why() -> None:
    """It was asked for a JSON object, which it was."""
    code, text = invoke("send", "--action", "x", "--metadata", '{"score": 1e400}')

    assert code == 2
    assert "give a JSON object (Number out of range" in text


def test_what_may_be_repeated_and_a_question_for_help_are_not_refused() -> None:
    assert invoke("undo", "--since", "1h", "--since", "2h", "--help")[0] == 0
    code, text = invoke("outcomes", "--user", "a", "--user", "b", "--json", "--json", "--since", "never")

    assert code == 2
    assert "it is given twice" not in text


@pytest.mark.parametrize(
    ("arguments", "without"),
    [
        (["--help"], {"kafka", "httpx", "aiohttp", "pydantic_settings", "prometheus_client", "structlog"}),
        (["run", "--help"], {"kafka", "httpx", "aiohttp", "pydantic_settings"}),
        (["simulate", "--help"], {"kafka", "httpx", "pydantic_settings"}),
    ],
)
def test_help_loads_nothing_that_only_the_work_needs(arguments: list[str], without: set[str]) -> None:
    done = python(
        "import sys\n"
        "from worker.cli.app import app\n"
        f"try: app({arguments!r})\n"
        "except SystemExit: pass\n"
        f"print(sorted({without!r} & set(sys.modules)))"
    )

    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_wrong_settings_are_listed_and_end_with_2() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "worker", "run"],
        env={"WORKER_KAFKA__MAX_GAP": "1", "WORKER_LOG__FORMAT": "xml"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("moderation-worker cannot start: 4 problems in its settings\n")
    assert "  kafka.max_gap = 1\n      give a whole number from 100 to 22680\n" in done.stderr
    assert "  log.format = 'xml'\n      give json or console\n" in done.stderr
    assert "  kafka.bootstrap_servers\n      is missing: " in done.stderr


@pytest.mark.parametrize("how", [{"PYTHONOPTIMIZE": "1"}, {"PYTHONOPTIMIZE": "2"}])
def test_a_python_without_asserts_is_refused_as_it_cannot_read_kafkas_answers(how: dict[str, str]) -> None:
    """It said that Kafka could not be reached: "Unable to decode response"."""
    done = subprocess.run(
        [sys.executable, "-m", "worker", "check"],
        env={**how, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 2
    assert done.stderr.splitlines()[2:4] == [
        "  PYTHONOPTIMIZE",
        "      unset it, and leave out -O: kafka-python reads a part of each answer inside an assert",
    ]


PATIENCE = 30.0


def worker_yaml(folder: Path, text: str = "") -> Path:
    """Settings that are well, of a Kafka that is not there, and these lines."""
    path = folder / "worker.yaml"
    path.write_text(
        "kafka: {bootstrap_servers: ['127.0.0.1:1']}\n"
        "tencent: {apps: {main: {sdk_app_id: 1, identifier: a, secret_key: key, region: seoul}}}\n" + text
    )
    return path


def test_check_marks_what_is_well_and_what_must_be_fixed(tmp_path: Path) -> None:
    """The marks are what an eye looks for; one of them was a word of the code."""
    config = worker_yaml(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "worker", "check", "--config", str(config)],
        env={"WORKER_KAFKA__COMMON": '{"bootstrap_timeout_ms": 200}'},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

    rows = [line.split() for line in done.stdout.splitlines()]
    assert [row[:2] for row in rows] == [["ok", "settings"], ["ok", "app"], ["fix", "kafka"]], done.stderr
    assert done.returncode == 1


@contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, *arguments],
        env={},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_worker_that_is_stopped_before_it_works_ends_quietly_with_0(
    number: signal.Signals, tmp_path: Path
) -> None:
    """Killed by the signal, a pod that is stopped in its first second would count as failed."""
    config = worker_yaml(tmp_path)
    with running("-X", "importtime", "-m", "worker", "run", "--config", str(config)) as process:
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        assert any("worker.settings" in line for line in lines)  # so it imports, and more is to come

        process.send_signal(number)

        assert all(line.startswith("import time:") for line in lines)
        assert process.wait(PATIENCE) == 0


def test_a_worker_that_is_stopped_while_kafka_is_away_ends_at_once_with_0(tmp_path: Path) -> None:
    config = worker_yaml(tmp_path)
    with running("-m", "worker", "run", "--config", str(config)) as process:
        assert process.stdout is not None
        assert '"event":"worker.started"' in process.stdout.readline()
        began = time.monotonic()

        process.send_signal(signal.SIGTERM)

        log, complaint = process.communicate(timeout=PATIENCE)
        assert time.monotonic() - began < 5  # kafka-python gives up after ten
        assert (process.returncode, complaint) == (0, "")
        assert (
            '"event":"worker.stopped","exit_code":0' in log
        )  # kafka-python may still say something after it


@pytest.mark.parametrize("command", [("check",), ("outcomes", "--user", "u"), ("topics", "create")])
def test_ctrl_c_ends_a_command_quietly_with_130(command: tuple[str, ...], tmp_path: Path) -> None:
    config = worker_yaml(tmp_path)  # of a Kafka that is not there: it is tried for ten seconds
    with running("-X", "importtime", "-m", "worker", *command, "--config", str(config)) as process:
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        # Its models are made by then: pydantic swallows an exception that comes while it makes one.
        assert any(line.split()[-1] == "worker.settings" for line in lines)

        process.send_signal(signal.SIGINT)

        assert all(line.startswith("import time:") or not line.strip() for line in lines)
        assert process.wait(PATIENCE) == 130


def test_ctrl_c_inside_exec_ends_a_module_with_130_and_by_no_signal(tmp_path: Path) -> None:
    """CPython remembers it as unhandled, as while a dataclass is made, and would kill itself at its end."""
    (tmp_path / "interrupted.py").write_text(
        "from worker.cli import app, entry_point\n"
        "app.main.__defaults__ = (lambda: exec('import signal; signal.raise_signal(signal.SIGINT)'),)\n"
        "entry_point.main()\n"
    )

    done = subprocess.run([sys.executable, "-m", "interrupted"], cwd=tmp_path, env={}, check=False)

    assert done.returncode == 130


@pytest.mark.parametrize(
    "option", ["--command-id", "--user", "--target", "--request-id", "--outcome-id", "--since"]
)
def test_an_argument_that_is_not_utf_8_is_refused(option: str) -> None:
    code, text = invoke(
        "outcomes", option, os.fsdecode(b"user-\xff"), *(("--user", "u") if option == "--since" else ())
    )

    assert code == 2
    assert "Traceback" not in text


@pytest.mark.parametrize("command", ["run", "check", "outcomes", "topics create"])
def test_an_example_is_right_but_for_the_file_that_it_names(command: str, tmp_path: Path) -> None:
    _, text = invoke(*command.split(), "--help")
    _, *arguments = shlex.split(text.partition("Example:")[2].strip().partition("\n")[0])

    done = subprocess.run(
        [sys.executable, "-m", "worker", *arguments],
        cwd=tmp_path,
        env={},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 2
    assert "worker.yaml\n      the file cannot be read (no such file or directory)" in done.stderr


@pytest.mark.parametrize(
    ("command", "variable", "text", "name"),
    [
        ("check", b"WORKER_KAFKA__COMMON", b"[" * 100_000, "kafka.common"),
        ("check", b"WORKER_KAFKA__COMMON__SASL_PLAIN_PASSWORD", b"pass\xff", "kafka.common.sasl_plain_password"),
        ("check", b"WORKER_LOG__L\xe9VEL", b"info", "log.l"),
        ("check", b"WORKER_CONFIG", b"/dev/zero", "/dev/zero"),
        ("run", b"WORKER_KAFKA__CONSUMER__MAX_POLL_RECORDS", b"0", "kafka.consumer.max_poll_records = 0"),
        ("outcomes --user u", b"WORKER_KAFKA__PRODUCER__COMPRESSION_TYPE", b"foo", "kafka.producer.compression_type = 'foo'"),
        ("topics create", b"WORKER_KAFKA__CONSUMER__FETCH_MAX_WAIT_MS", b"60000", "kafka.consumer.fetch_max_wait_ms = 60000"),
    ],
    ids=lambda value: value[:40].decode("ascii", "replace") if isinstance(value, bytes) else value,
)  # fmt: skip
def test_whatever_the_environment_holds_a_command_ends_with_2_and_the_settings_name(
    command: str, variable: bytes, text: bytes, name: str, tmp_path: Path
) -> None:
    """It ended with a traceback and exit code 1, or did not end."""
    environ = {b"WORKER_CONFIG": os.fsencode(worker_yaml(tmp_path)), variable: text}

    done = subprocess.run(
        [sys.executable, "-m", "worker", *command.split()], env=environ, capture_output=True, timeout=60, check=False
    )  # fmt: skip

    complaint = done.stderr.decode()
    assert done.returncode == 2, complaint
    assert f"\n  {name}" in complaint
    assert "Traceback" not in complaint
    assert "pass" not in complaint.replace("sasl_plain_password", "")


@pytest.mark.parametrize("option", ["--command-id", "--user", "--target", "--request-id", "--outcome-id"])
def test_an_empty_id_is_refused_before_kafka_is_asked(option: str) -> None:
    code, text = invoke("outcomes", option, "")

    assert code == 2
    assert option in text


@pytest.mark.parametrize(
    "command_id", ["65f2a0b1c3d4e5f60718293a", "7c13c1291aa34deda7f7989c40884556", "0f" * 32]
)
def test_an_id_of_hexadecimal_digits_is_whole_in_the_hint_to_paste(
    command_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was taken for a key: the command to paste asked for [redacted]."""
    with pytest.raises(SystemExit):
        main(lambda: SEND._print_missing([command_id], 1, "moderation-worker outcomes"))

    assert capsys.readouterr().err.endswith(f"moderation-worker outcomes --command-id {command_id}\n")


@pytest.mark.parametrize("since", ["1h", "60m"])
def test_an_undo_of_everybody_needs_a_time_and_takes_the_usual_one(since: str) -> None:
    """The usual one was taken for none at all, although another spelling of it was not."""
    refused = "give one of --issuer"

    assert refused in invoke("undo")[1]
    assert refused not in invoke("undo", "--since", since)[1]
