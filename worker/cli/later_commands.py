# Reads from Kafka the commands that may have come after an outcome or a dead letter, and shows them to a planner: `undo` and
# `dead-letters replay` look among them for later commands for the same users.
#
# It only reads. What a later command means is decided by the planners (undo_plan.py, replay_plan.py).

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

from worker.cli.filters import Filters
from worker.cli.last_command_per_user import FIELDS, CommandMoment
from worker.domain.contract.command_decoding import Command

if TYPE_CHECKING:
    from worker.broker.batch_search import SearchTerms
    from worker.broker.command_history import CommandHistory
    from worker.broker.options import KafkaOptions
    from worker.domain.contract.command_decoding import CommandDecoder


class CommandObserver(Protocol):
    """Sees later commands: a planner."""

    @property
    def terms(self) -> SearchTerms:
        """The bytes that each outcome has that matters; none if every outcome is to be seen."""

    def see_waiting(self, command: Command, moment: CommandMoment) -> None:
        """Take note of a command that has no outcome yet."""

    def see_outcome(self, view: Any) -> None:
        """Take note of an outcome, by the fields of ``last_command_per_user.FIELDS``."""


def see_later_commands(
    options: KafkaOptions,
    decoder: CommandDecoder,
    history: CommandHistory,
    since: float,
    observer: CommandObserver,
) -> None:
    """
    Show the observer each command of the group without an outcome, and each outcome written from ``since`` on (seconds since 1970).

    What waits is read first: a command that finishes meanwhile is then seen twice rather than not at all.
    """
    _see_waiting(options, decoder, history, observer)
    everything = Filters(fields=FIELDS)
    for values in history.every_outcome(since, terms=observer.terms):
        for view in everything.views(values):
            observer.see_outcome(view)


def _see_waiting(
    options: KafkaOptions, decoder: CommandDecoder, history: CommandHistory, observer: CommandObserver
) -> None:
    now = time.time()
    for batch in history.unfinished():
        for record in batch:
            command = decoder.decode(record)
            if isinstance(command, Command):
                moment = CommandMoment(options.command_topic, record.partition, record.offset, now)
                observer.see_waiting(command, moment)
