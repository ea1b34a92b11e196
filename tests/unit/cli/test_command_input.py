# What `send` takes for a command, and what it says of everything else: lines, encodings, options, sizes.

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Any

import pytest

from worker.cli import command_input
from worker.cli.command_input import IN_MEMORY, judge_lines, judge_options, open_spool
from worker.domain.contract.command_decoding import CommandDecoder
from worker.domain.contract.outcomes import Worker
from worker.domain.engine_settings import EngineSettings
from worker.errors import WorkerError

if TYPE_CHECKING:
    from pathlib import Path

    from worker.cli.command_input import CommandInput

DECODER = CommandDecoder(EngineSettings("commands", 6, {"main": "admin"}, "main", Worker("w", "0")))


def line(command_id: str, **changes: Any) -> bytes:
    fields = {
        "command_id": command_id,
        "action": "group.unban_group_member",
        "group_id": "g",
        "user_ids": ["u"],
    }
    return json.dumps(fields | changes).encode()


def judged(text: bytes) -> CommandInput:
    return judge_lines(io.BytesIO(text), DECODER, io.BytesIO())


def remedies(found: CommandInput) -> list[str]:
    return [str(problem) for problem in found.problems]


def test_valid_lines_are_sent_as_they_are_keyed_by_their_target() -> None:
    found = judged(line("a") + b"\n" + line("b", group_id="h") + b"\n")

    assert found.identities == [(1, "a"), (2, "b")]
    assert [(each.value, each.key) for each in found.commands(DECODER)] == [
        (line("a"), b"g"),
        (line("b", group_id="h"), b"h"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbf" + line("a") + b"\r\n" + line("b") + b"\r\n",
        b"\n\r\n" + line("a") + b"\n\n  \n" + line("b"),
    ],
    ids=["a byte order mark and CRLF", "blank lines and no last line end"],
)
def test_what_editors_do_to_a_file_is_nothing_wrong(text: bytes) -> None:
    found = judged(text)

    assert (found.invalid, [command_id for _, command_id in found.identities]) == (0, ["a", "b"])
    assert [each.value for each in found.commands(DECODER)] == [line("a"), line("b")]


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        (b"", "there is no command in it: one JSON object per line"),
        (b"\n \n", "there is no command in it: one JSON object per line"),
        (b"[" + line("a") + b"]", "this is a JSON array: give one object per line (jq -c '.[]' makes it so)"),
        (line("a").decode().encode("utf-16"), "this is UTF-16: save it as UTF-8"),
    ],
    ids=["empty", "blank", "an array", "UTF-16"],
)
def test_an_input_that_is_no_file_of_lines_is_refused_as_a_whole(text: bytes, remedy: str) -> None:
    found = judged(text)

    assert remedies(found) == [remedy]
    assert found.unusable


def test_each_problem_of_a_line_names_line_and_field_and_the_others_remain_valid() -> None:
    found = judged(b"\n".join([line("a"), line("b", raeson="x", user_ids=[]), b"no JSON", line("c")]))

    assert [command_id for _, command_id in found.identities] == ["a", "c"]
    assert found.invalid == 2
    assert not found.unusable
    first, second, *_, last = remedies(found)
    assert first == "line 2: raeson: there is no field 'raeson': did you mean 'reason'?"
    assert second.startswith("line 2: user_ids: ")
    assert last.startswith("line 3: the record is not JSON")


def test_an_object_over_several_lines_is_refused_with_how_to_make_it_one() -> None:
    found = judged(json.dumps(json.loads(line("a")), indent=2).encode())

    assert "give one per line (jq -c . makes it so)" in remedies(found)[0]


def test_a_line_of_two_megabytes_is_refused_with_its_size_and_the_next_one_is_read() -> None:
    found = judged(b"x" * 2_000_000 + b"\n" + line("a"))

    assert remedies(found) == ["line 1: it has 2,000,001 bytes, more than any record: give several commands"]
    assert [command_id for _, command_id in found.identities] == ["a"]


class Endless(io.RawIOBase):
    """Bytes without any line end, as /dev/zero has them."""

    read_bytes = 0

    def readline(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        self.read_bytes += size
        assert self.read_bytes < 100_000_000
        return b"\0" * size


def test_an_input_that_never_ends_is_given_up() -> None:
    found = judge_lines(Endless(), DECODER, io.BytesIO())  # type: ignore[arg-type]

    assert remedies(found) == ["line 1: it does not end: give one JSON object per line"]


@pytest.mark.parametrize(("repeated", "most"), [(b"y\n", "100 commands"), (b"\n", "1,000 lines")])
def test_lines_that_never_end_are_given_up(
    repeated: bytes, most: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of `yes | moderation-worker send -`: none of them is a command, so no number of commands ended it."""
    monkeypatch.setattr(command_input, "COMMANDS", 100)
    monkeypatch.setattr(command_input, "LINES", 1_000)

    class Lines:
        def readline(self, _most: int) -> bytes:
            return repeated

    found = judge_lines(Lines(), DECODER, io.BytesIO())  # type: ignore[arg-type]

    assert remedies(found)[-1] == f"more than {most} at once: give it in parts (split -l 100)"
    assert found.unusable, "so --skip-invalid sends none of it"


def test_blank_lines_are_not_counted_as_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of as many as are allowed was refused for a blank last line."""
    monkeypatch.setattr(command_input, "COMMANDS", 100)
    lines = b"\n\n".join(line(f"c-{number}") for number in range(100))

    found = judged(lines + b"\n\n")
    more = judged(lines + b"\n" + line("c-100"))

    assert (len(found.identities), found.problems) == (100, [])
    assert remedies(more) == ["more than 100 commands at once: give it in parts (split -l 100)"]


def test_an_id_that_is_given_twice_is_a_problem_of_the_second_line() -> None:
    found = judged(line("a") + b"\n" + line("a", group_id="h"))

    assert remedies(found) == ["line 2: command_id: line 1 has the same: each command needs an id of its own"]


def test_of_many_invalid_lines_the_first_are_named_and_all_are_counted() -> None:
    found = judged(b"{}\n" * 1000)

    assert found.invalid == 1000
    assert {problem.line for problem in found.problems} == set(range(1, 21))


def test_options_become_one_command() -> None:
    found = judge_options(
        {"command_id": "a", "action": "room.update_room_member_info", "room_id": "r", "user_ids": ["u"], "role": "Admin",
         "metadata": {"score": 0.9}, "duration": None},
        DECODER, io.BytesIO(),
    )  # fmt: skip

    (command,) = found.commands(DECODER)
    assert json.loads(command.value) == {
        "command_id": "a", "action": "room.update_room_member_info", "room_id": "r", "user_ids": ["u"],
        "member_info": {"role": "Admin"}, "metadata": {"score": 0.9},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "option"),
    [
        ({"action": "live.unban_member", "group_id": "g"}, "--group-id"),
        ({"action": "group.ban_group_member", "group_id": "g"}, "--duration"),
        ({"action": "live.unban_member", "room_id": "r", "user_ids": ["u", ""]}, "--user"),
        ({"action": "room.update_room_member_info", "room_id": "r", "role": "Boss"}, "--role"),
        (
            {"action": "live.unban_member", "room_id": "r", "role": "Admin"},
            "--name-card, --role, --custom-info",
        ),
        ({"action": "live.unban_member", "room_id": "r", "not_after": "tomorrow"}, "--not-after"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_problem_of_an_option_names_the_option(given: dict[str, Any], option: str) -> None:
    found = judge_options({"command_id": "a", "user_ids": ["u"], **given}, DECODER, io.BytesIO())

    assert [problem.field for problem in found.problems] == [option]
    assert not found.identities


@pytest.mark.parametrize(
    ("changes", "option"),
    [
        ({"reason": "a\udcff"}, "--reason"),
        ({"user_ids": ["u", "\udcff"]}, "--user"),
        ({"group_id": "\udcff"}, "--group-id"),
    ],
)
def test_an_option_that_is_no_utf8_is_named(changes: dict[str, Any], option: str) -> None:
    """A shell passes any bytes on."""
    given = {"command_id": "c", "action": "group.unban_group_member", "group_id": "g", "user_ids": ["u"]}

    found = judge_options(given | changes, DECODER, io.BytesIO())

    assert [(each.code, each.field) for each in found.problems] == [("not_utf8", option)]
    assert found.identities == []


LARGE = [line(f"c-{number}")[:-1] + b" " * 60_000 + b"}\n" for number in range(IN_MEMORY // 60_000 + 1)]
"""Lines that wait in a temporary file."""


class FullSpool(io.BytesIO):
    """A temporary file on a disk that is full, or broken, at one of its operations."""

    def __init__(self, operation: str) -> None:
        super().__init__()
        self.operation = operation

    def _fails(self, operation: str) -> None:
        if operation == self.operation:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write(self, value: Any) -> int:
        self._fails("write")
        return super().write(value)

    def flush(self) -> None:
        self._fails("flush")

    def seek(self, *place: int) -> int:
        self._fails("seek")
        return super().seek(*place)

    def __next__(self) -> bytes:
        self._fails("read")
        return super().__next__()


@pytest.mark.parametrize("operation", ["write", "flush", "seek", "read"])
def test_a_temporary_file_that_fails_is_blamed_on_the_folder_and_not_the_input(operation: str) -> None:
    """It was said that the input cannot be read, or that the output cannot be written."""
    with pytest.raises(WorkerError, match="set TMPDIR") as raised:
        list(judge_lines(io.BytesIO(line("c-1")), DECODER, FullSpool(operation)).commands(DECODER))

    expected = f"the temporary folder {tempfile.gettempdir()} cannot hold the input (no space left on device)"
    assert str(raised.value).startswith(expected)


def test_an_input_that_cannot_be_read_is_an_error_of_the_input() -> None:
    class Broken(io.BytesIO):
        def readline(self, _size: int | None = -1, /) -> bytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.raises(OSError, match="Input/output error"):
        judge_lines(Broken(), DECODER, io.BytesIO())


def test_without_any_temporary_folder_it_is_said_where_one_was_looked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As in a container whose root may not be written to."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "None")])

    with open_spool() as spool, pytest.raises(WorkerError, match="set TMPDIR") as raised:
        judge_lines(io.BytesIO(b"".join(LARGE)), DECODER, spool)

    assert "(no usable temporary directory found in" in str(raised.value)
    assert str(tmp_path / "None") in str(raised.value)


LIMITED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
del sys.argv[1]
runpy.run_module("worker", run_name="__main__", alter_sys=True)
"""
"""Runs the program where no file may be larger."""


@pytest.mark.parametrize("option", [(), ("--json",)])
@pytest.mark.parametrize("room", [1_000_000, sum(map(len, LARGE))])
def test_a_file_that_the_temporary_folder_cannot_hold_ends_send_with_1(
    room: int, option: tuple[str, ...], tmp_path: Path
) -> None:
    """Either much of it does not fit, or what is left in a buffer at its end: the same, and nothing is sent."""
    config, commands = tmp_path / "worker.yaml", tmp_path / "commands"
    config.write_text(
        "kafka: {bootstrap_servers: ['127.0.0.1:1']}\n"
        "tencent: {apps: {main: {sdk_app_id: 1, identifier: a, secret_key: key, region: seoul}}}\n"
    )
    commands.write_bytes(b"".join([*LARGE, line("c-last") + b"\n"]))

    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(room), "send", str(commands), "--config", str(config), "--dry-run", *option],
        env={"TMPDIR": str(tmp_path)}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stdout) == (1, "")
    error = json.loads(done.stderr)["error"] if option else done.stderr
    assert f"the temporary folder {tmp_path} cannot hold the input (file too large): set TMPDIR" in error
