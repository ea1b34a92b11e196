# The command line: what it says, how it ends, and what it does not load.

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from worker import __version__
from worker.cli import app

COMMANDS = ("run", "check", "topics create", "simulate", "demo")


def invoke(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, arguments, prog_name="moderation-worker")
    return result.exit_code, result.output


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )


def test_the_version_is_told() -> None:
    assert invoke("--version") == (0, f"moderation-worker {__version__}\n")


def test_the_help_names_every_command() -> None:
    code, text = invoke("--help")

    assert code == 0
    for command in COMMANDS:
        assert command.split()[0] in text


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_tells_what_it_does_with_an_example(command: str) -> None:
    code, text = invoke(*command.split(), "--help")

    assert code == 0
    assert f"moderation-worker {command}" in " ".join(text.split())


@pytest.mark.parametrize(
    "arguments", [("walk",), ("run", "--confg", "x"), ("topics", "create", "--partitions", "0")]
)
def test_wrong_arguments_end_with_2(arguments: tuple[str, ...]) -> None:
    assert invoke(*arguments)[0] == 2


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
        "from worker.cli import app\n"
        f"try: app({arguments!r})\n"
        "except SystemExit: pass\n"
        f"print(sorted({without!r} & set(sys.modules)))"
    )

    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_wrong_settings_are_told_one_below_the_other_and_end_with_2() -> None:
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
    assert "  kafka.max_gap = 1\n      give a whole number from 100 to 24576\n" in done.stderr
    assert "  log.format = 'xml'\n      give json or console\n" in done.stderr
    assert "  kafka.bootstrap_servers\n      is missing: " in done.stderr
