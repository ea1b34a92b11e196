# What `send` is given: one command from options, or commands as lines of JSON; and what is wrong with them.
#
# Everything is judged by the worker's own decoder before anything is sent. Time and memory are linear in the input and
# bounded: a line may be as long as a record, and valid lines wait in a temporary file. Not here: Kafka (command_producer.py).

from __future__ import annotations

import codecs
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Final

import msgspec

from worker.broker.command_producer import OutgoingCommand, prepare
from worker.domain.contract.command_decoding import Command
from worker.domain.contract.field_checks import FIELDS, MEMBER_INFO
from worker.domain.contract.raw_records import BareRecord
from worker.domain.contract.rejections import Rejected
from worker.errors import WorkerError
from worker.printable_text import is_utf8

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from worker.domain.contract.command_decoding import CommandDecoder

LINE_BYTES: Final = 1024 * 1024
"""The longest line: no broker takes a longer record unless it is configured to, and a command has some 100 KiB at most."""
ENDLESS_BYTES: Final = 64 * LINE_BYTES
"""A line of more bytes has no end: this is not a file of lines."""
COMMANDS: Final = 500_000
"""The most commands at once, valid or not: what is remembered of each until its outcome is a hundred bytes or two."""
LINES: Final = 10 * COMMANDS
"""The most lines, blank ones too: those may have no end either."""
PROBLEMS: Final = 20
"""The most lines whose problems are kept; the others are counted."""
IN_MEMORY: Final = 16 * LINE_BYTES
"""The most bytes of valid lines that are kept in memory; more are kept in a temporary file."""

_OPTIONS: Final = {
    "user_ids": "--user",
    "member_info": ", ".join("--" + name.replace("_", "-") for name in MEMBER_INFO),
    **{f"member_info.{name}": name for name in MEMBER_INFO},
}
"""The options of those fields whose option has another name."""


@dataclass(frozen=True, slots=True)
class LineProblem:
    """
    One thing that is wrong with the input.

    Attributes:
        line: Its number, from 1; None for options, or the input as a whole.
        field: The field or option at fault; None if all of it is.
        remedy: A sentence that says what to do.

    """

    line: int | None
    code: str
    field: str | None
    remedy: str

    def __str__(self) -> str:
        where = "" if self.line is None else f"line {self.line}: "
        return f"{where}{'' if self.field is None else f'{self.field}: '}{self.remedy}"


@dataclass(slots=True)
class CommandInput:
    """
    Commands that may be sent, in their order, and what is wrong with the rest.

    Attributes:
        spool: Where the valid lines are kept; the caller opens and closes it.
        identities: Line number and command_id of each valid command.
        problems: Of the first invalid lines.
        invalid: How many lines are invalid.
        targets: The groups and rooms of the valid commands.

    """

    spool: IO[bytes]
    identities: list[tuple[int, str]] = field(default_factory=list)
    problems: list[LineProblem] = field(default_factory=list)
    invalid: int = 0
    targets: set[str] = field(default_factory=set)

    @property
    def unusable(self) -> bool:
        """Whether something is wrong with the input as a whole, so that no line of it may be skipped."""
        return any(problem.line is None for problem in self.problems)

    def commands(self, decoder: CommandDecoder) -> Iterator[OutgoingCommand]:
        """Yield the valid commands as they are sent. Raises WorkerError if the spool cannot be read."""
        with _spooling():
            self.spool.seek(0)
            for line in self.spool:
                command = prepare(decoder, line[:-1])
                assert isinstance(command, OutgoingCommand)
                yield command

    def add(self, line: int, value: bytes, command: Command) -> None:
        """Take a valid command. Raises WorkerError if the spool cannot hold it."""
        self.identities.append((line, command.command_id))
        self.targets.add(command.target)
        with _spooling():
            self.spool.write(value + b"\n")

    def finish(self) -> None:
        """Write what is still in a buffer, before anything is sent. Raises WorkerError if the spool cannot hold it."""
        with _spooling():
            self.spool.flush()

    def refuse(self, problems: list[LineProblem]) -> None:
        """Take what is wrong with one line, or with the whole, which is kept however many lines are invalid."""
        self.invalid += 1
        if self.invalid <= PROBLEMS or problems[0].line is None:
            self.problems += problems


@contextmanager
def open_spool() -> Iterator[IO[bytes]]:
    """Open where valid lines wait: in memory, and from ``IN_MEMORY`` bytes on in a temporary file."""
    spool = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 - its own end would try again to write what it could not
    try:
        yield spool
    finally:
        with suppress(OSError):
            spool.close()


@contextmanager
def _spooling() -> Iterator[None]:
    """Raise a WorkerError that names the temporary folder in place of an OSError, which would be taken for one of the input."""
    try:
        yield
    except OSError as error:
        why = error.strerror or type(error).__name__
        folder = "the temporary folder"
        with suppress(OSError):  # there is none: then the error says where one was looked for
            folder += f" {tempfile.gettempdir()}"
        remedy = "set TMPDIR to a folder with more room"
        raise WorkerError(f"{folder} cannot hold the input ({why[:1].lower()}{why[1:]}): {remedy}") from error


def judge_options(given: Mapping[str, Any], decoder: CommandDecoder, spool: IO[bytes]) -> CommandInput:
    """Judge one command given as fields. Those that are None are left out."""
    member_info = {name: given[name] for name in MEMBER_INFO if given.get(name) is not None}
    fields = {name: given[name] for name in FIELDS if given.get(name) is not None}
    judged = CommandInput(spool)
    foreign = [name for name, value in (fields | member_info).items() if not _all_utf8(value)]
    if foreign:
        judged.refuse(
            [LineProblem(None, "not_utf8", _option_of(name), "this is not UTF-8 text") for name in foreign]
        )
        return judged
    value = msgspec.json.encode(fields | ({"member_info": member_info} if member_info else {}))
    _judge(judged, None, value, decoder, {})
    return judged


def _all_utf8(value: object) -> bool:
    texts = value if isinstance(value, list) else [value]
    return all(is_utf8(text) for text in texts if isinstance(text, str))


def judge_lines(stream: IO[bytes], decoder: CommandDecoder, spool: IO[bytes]) -> CommandInput:
    """
    Judge a file of one JSON object per line. Blank lines, a byte order mark and CRLF are allowed.

    Raises OSError if the file cannot be read, and WorkerError if the spool cannot hold it.
    """
    judged = CommandInput(spool)
    seen: dict[str, int] = {}
    for number, line in enumerate(_lines(stream), start=1):
        problem = line if isinstance(line, LineProblem) else _of_whole_input(line) if number == 1 else None
        if problem is not None:
            judged.refuse([problem])
            if problem.line is None:
                break
        elif isinstance(line, bytes) and line.strip():
            _judge(judged, number, line.strip(), decoder, seen)
        too_many = (
            f"{COMMANDS:,} commands" if len(judged.identities) + judged.invalid > COMMANDS
            else f"{LINES:,} lines" if number > LINES
            else None
        )  # fmt: skip
        if too_many is not None:
            remedy = f"more than {too_many} at once: give it in parts (split -l {COMMANDS})"
            judged.refuse([LineProblem(None, "too_many", None, remedy)])
            break
    if not judged.identities and not judged.invalid:
        remedy = "there is no command in it: one JSON object per line"
        judged.refuse([LineProblem(None, "no_value", None, remedy)])
    judged.finish()
    return judged


def _of_whole_input(first: bytes) -> LineProblem | None:
    """Return what its first line says of the whole input."""
    if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return LineProblem(None, "not_utf8", None, "this is UTF-16: save it as UTF-8")
    if first.lstrip().startswith(b"["):
        remedy = "this is a JSON array: give one object per line (jq -c '.[]' makes it so)"
        return LineProblem(None, "not_an_object", None, remedy)
    return None


def _lines(stream: IO[bytes]) -> Iterator[bytes | LineProblem]:
    """Yield each line without its end, or what is wrong with it. Never keeps more than one line of ``LINE_BYTES``."""
    number = 0
    while line := stream.readline(LINE_BYTES + 1):
        number += 1
        size = len(line)
        while not line.endswith(b"\n") and size > LINE_BYTES and (more := stream.readline(LINE_BYTES)):
            size += len(more)
            line = more
            if size > ENDLESS_BYTES:
                yield LineProblem(number, "too_long", None, "it does not end: give one JSON object per line")
                return
        if size > LINE_BYTES + 1:
            remedy = f"it has {size:,} bytes, more than any record: give several commands"
            yield LineProblem(number, "too_long", None, remedy)
        else:
            yield line.removeprefix(codecs.BOM_UTF8) if number == 1 else line


def _judge(
    judged: CommandInput, number: int | None, value: bytes, decoder: CommandDecoder, seen: dict[str, int]
) -> None:
    read = decoder.decode(BareRecord(value))
    if isinstance(read, Rejected):
        judged.refuse(_problems(number, value, read))
    elif read.command_id in seen:
        remedy = f"line {seen[read.command_id]} has the same: each command needs an id of its own"
        judged.refuse([LineProblem(number, "command_id_reused", "command_id", remedy)])
    else:
        seen[read.command_id] = number or 0
        judged.add(number or 0, value, read)


def _problems(number: int | None, value: bytes, read: Rejected) -> list[LineProblem]:
    faults = [
        (read.code, read.field, read.message),
        *((each.code, each.field, each.message) for each in read.also),
    ]
    if number is None:
        return [LineProblem(None, code, _option_of(name), text) for code, name, text in faults]
    if read.code == "not_json" and value in {b"{", b"}"}:
        faults = [
            (read.code, None, "an object goes on over several lines: give one per line (jq -c . makes it so)")
        ]
    return [LineProblem(number, *fault) for fault in faults]


def _option_of(name: str | None) -> str | None:
    """Return the option that sets a field."""
    if name is None:
        return None
    known = _OPTIONS.get(name.partition("[")[0], name)
    return known if known.startswith("--") else "--" + known.replace("_", "-")
