# How `undo` and `dead-letters replay` send commands, and how they report what became of them; the exit code is `send`'s as well.
#
# The caller has judged each command by then. The commands that Kafka acknowledged, and those that it did not, are counted and shown.

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING

import typer

from worker.cli.progress_line import clear_progress, show_line
from worker.cli.shared import FAILED, INTERRUPTED, print_json
from worker.printable_text import plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from worker.broker.command_producer import OutgoingCommand, UnconfirmedCommand
    from worker.broker.options import KafkaOptions

REASONS_SHOWN = 5


def send_all(
    options: KafkaOptions, commands: Sequence[OutgoingCommand], *, retry_hint: str, as_json: bool
) -> None:
    """
    Send the commands in order, and say how many were written.

    Ends the program with exit code 1 if one was not written, and with 130 if that is only so because of Ctrl-C.
    ``retry_hint`` says what to do then, and what becomes of the commands that are written already.
    """
    from worker.broker.command_producer import CommandProducer, WrittenCommand  # noqa: PLC0415 - --help need not load Kafka

    with CommandProducer(options) as producer:
        results = producer.produce(
            commands, lambda count: show_line(f"{count:,} of {len(commands):,} commands are in Kafka")
        )
    clear_progress()
    failures = [each for each in results if not isinstance(each, WrittenCommand)]
    written = len(results) - len(failures)
    if as_json:
        print_json({"written": written, "of": len(commands), "topic": options.command_topic})
    else:
        print(f"{written:,} of {len(commands):,} commands are in {options.command_topic}")
    if written == len(commands):
        return
    reasons = Counter(failure.reason for failure in failures)
    for reason, count in reasons.most_common(REASONS_SHOWN):
        sys.stderr.write(f"{count:,}: {plain(reason)}\n")
    unknown = sum(failure.may_be_written for failure in failures)
    if unknown:
        sys.stderr.write(f"{unknown:,} of them were sent, and may be in Kafka all the same\n")
    sys.stderr.write(f"{retry_hint}\n")
    raise typer.Exit(exit_code_of_unconfirmed(failures))


def exit_code_of_unconfirmed(failures: Iterable[UnconfirmedCommand]) -> int:
    """Return the exit code where not all commands were written: that of Ctrl-C, unless one failed for another reason."""
    return INTERRUPTED if all(failure.interrupted for failure in failures) else FAILED
