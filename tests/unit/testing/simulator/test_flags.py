# The command's flags and the reference page: both are made from the tables, and nothing may be missing in either.

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
import typer
from typer.testing import CliRunner

from worker.cli.simulate import simulate
from worker.errors import WorkerError
from worker.testing.simulator.endpoint_specs import SPECS
from worker.testing.simulator.faults import ROWS, FaultValueType
from worker.testing.simulator.reference_page import ROUTES, reference
from worker.testing.simulator.request_log import AppliedLaterLine, RequestLine

if TYPE_CHECKING:
    from pathlib import Path


def run(*arguments: str, key: str = "") -> Any:
    app = typer.Typer(rich_markup_mode=None)
    app.command()(simulate)
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200", "MODERATION_SIMULATOR_KEY": key})


@pytest.mark.parametrize("name", ROWS)
def test_every_fault_is_a_flag_and_in_the_help(name: str) -> None:
    flag = "--" + name.replace("_", "-")

    assert f"{flag} " in run("--help").output


@pytest.mark.parametrize("name", [*ROWS, *SPECS, *(path for _, path, _ in ROUTES)])
def test_every_fault_endpoint_and_route_is_in_the_reference(name: str) -> None:
    assert name in reference()


@pytest.mark.parametrize("field", [*RequestLine.__struct_fields__, *AppliedLaterLine.__struct_fields__])
def test_every_field_of_the_log_is_in_the_reference(field: str) -> None:
    assert field in reference().partition("## Log")[2]


def test_the_reference_is_printed_without_a_key() -> None:
    result = run("--reference")

    assert result.exit_code == 0
    assert result.output == reference()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--key-file"),
        (("--key", ""), "empty"),
        (("--key", "k", "--key-file", "f"), "either --key-file or --key"),
        (("--key-file", "/does/not/exist"), "cannot read /does/not/exist"),
        (("--key", "k", "--transient", "2"), "a number from 0 to 1"),
        (("--key", "k", "--outage", "503"), "one of none, 502, refuse, hang"),
        (("--key", "k", "--limit", "-1"), "an integer from 0"),
        (("--key", "k", "--limit", "x"), "--limit"),
        (("--key", "k", "--rule", "{"), "not JSON"),
        (("--key", "k", "--rule", "[" * 100_000), "not JSON"),
        (("--key", "k", "--rule", '{"limit": ' + "9" * 5_000 + "}"), "not JSON"),
        (("--key", "k", "--rule", '{"\\ud800": 1}'), "not JSON"),
        (("--key", "k", "--rule", '{"latency": NaN}'), "not JSON"),
        (("--key", "k", "--rule", '{"self": 1}'), "self: there is no such fault"),
        (("--key", "k", "--rule", "[]"), "JSON object"),
        (("--key", "k", "--rule", '{"outge": 1}'), "outge: there is no such fault"),
        (("--key", "k", "--rule", '{"outage": "refuse"}'), "for_seconds"),
        (("--key", "k", "--outage", "refuse"), "for_seconds"),
        (("--key", "k", "--port", "99999"), "--port"),
        (("--key", "k", "--sdk-app-id", "4294967296"), "--sdk-app-id"),
        (("--key", "k", "--sdk-app-id", "99999999999999999999"), "--sdk-app-id"),
        (("--key", "\udcff"), "not UTF-8"),
        (("--key-file", "/dev/zero"), "it is a device, and must be a regular file"),
        (("--key-file", "/"), "it is a directory"),
        (("--key-file", "a" * 300), "cannot read"),
        (("--key-file", "\udcff"), "cannot read"),
        (("--key", "k", "--host", ""), "it is empty"),
        (("--key", "k", "--host", "\udcff"), "not UTF-8"),
        (("--key", "k", "--identifier", ""), "it is empty"),
        (("--key", "k", "--identifier", "\udcff"), "not UTF-8"),
        (("--key", "k", "--bad-user-list", "\udcff"), "not UTF-8"),
        (("--key", "k", "--missing-user-list", ""), "it is empty"),
        (("--key", "k", "--unknown-targets", "\udcff"), "not UTF-8"),
        (("--key", "k", "--rule", '{"target": "\udcff"}'), "not JSON"),
        (("--key", "k", "--outage", "\udcff"), "one of none, 502, refuse, hang"),
    ],
)
def test_wrong_options_are_refused_with_a_sentence(arguments: tuple[str, ...], message: str) -> None:
    result = run(*arguments)

    assert result.exit_code == 2
    assert message in result.output


def test_a_key_of_the_environment_is_checked_as_one_of_the_command_line() -> None:
    """It started, and then failed with each signed request: a key that is not UTF-8 can sign nothing."""
    result = run("--port", "0", key="\udcff")

    assert result.exit_code == 2
    assert "not UTF-8" in result.output
    assert "MODERATION_SIMULATOR_KEY" in result.output


def test_a_key_file_that_never_ends_or_never_begins_is_refused(tmp_path: Path) -> None:
    """One filled the memory, the other was waited for without end."""
    pipe, large = tmp_path / "pipe", tmp_path / "large"
    os.mkfifo(pipe)
    large.write_bytes(b"k" * 10_000)

    for path, reason in ((pipe, "it is a pipe"), (large, "so it is the wrong file")):
        result = run("--key-file", str(path))
        assert result.exit_code == 2
        assert reason in result.output


@pytest.mark.parametrize("host", ["no.such.host.invalid", "é" * 100, "a" * 64 + ".example"])
def test_a_host_that_cannot_be_is_a_failure_without_a_traceback(host: str) -> None:
    """What cannot be encoded as a name is no OSError, and ended with a traceback."""
    result = run("--key", "k", "--host", host)

    assert isinstance(result.exception, WorkerError)


def test_a_log_that_cannot_be_written_is_a_failure(tmp_path: Path) -> None:
    result = run("--key", "k", "--log", str(tmp_path))

    assert isinstance(result.exception, WorkerError)
    assert "irectory" in str(result.exception)


def test_flags_have_the_types_of_their_rows() -> None:
    lists = [row.name for row in ROWS.values() if row.kind in (FaultValueType.NAMES, FaultValueType.CODES)]
    arguments = [part for name in lists for part in (f"--{name.replace('_', '-')}", "1") * 2]

    assert "no such fault" in run("--key", "k", *arguments, "--switch-off", "--rule", '{"x": 1}').output
