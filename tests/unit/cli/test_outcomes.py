# `outcomes`: what it says of the commands that wait, whatever else has ended meanwhile. What it does on a real Kafka: tests/process.

from __future__ import annotations

import importlib
import json
from itertools import islice
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from worker.broker.command_history import WaitingCommand
from worker.cli.filters import Filters
from worker.domain.contract.command_decoding import CommandDecoder
from worker.domain.contract.outcomes import Worker
from worker.domain.engine_settings import EngineSettings

if TYPE_CHECKING:
    from collections.abc import Callable

OUTCOMES: Any = importlib.import_module("worker.cli.outcomes")
DECODER = CommandDecoder(EngineSettings("commands", 6, {"main": "admin"}, "main", Worker("w", "0")))


def _record(offset: int) -> Any:
    value = {
        "command_id": f"late-{offset}",
        "action": "group.unban_group_member",
        "group_id": "g",
        "user_ids": ["u"],
    }
    return SimpleNamespace(
        topic="commands", partition=0, offset=offset, timestamp=1_800_000_000_000, key=None, value=json.dumps(value).encode(), headers=[],
    )  # fmt: skip


class _History:
    """Commands that were open when the group was asked."""

    def __init__(self, count: int) -> None:
        self._records = [_record(offset) for offset in range(count)]

    def waiting(self, _progress: object, wanted: Callable[[Any], bool], limit: int) -> list[WaitingCommand]:
        return [WaitingCommand(each, 0) for each in islice(filter(wanted, self._records), limit)]


@pytest.mark.parametrize(
    ("count", "ended", "shown", "hint"),
    [
        (3, 0, ["late-0", "late-1"], "these are the oldest 2 that wait: a higher --limit may show more\n"),
        (5, 2, ["late-2", "late-3"], "these are the oldest 2 that wait: a higher --limit may show more\n"),
        (4, 2, ["late-2", "late-3"], ""),
        (4, 3, ["late-3"], ""),
        (3, 3, [], ""),
    ],
)
def test_what_has_ended_meanwhile_is_not_counted_among_what_waits(
    count: int, ended: int, shown: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It took the place of a command that waits: "these are the oldest 2" was said of one."""
    printed = OUTCOMES._print_waiting(
        _History(count), Filters.of(user="u"), DECODER, {}, {f"commands-0-{each}" for each in range(ended)}, 2, as_json=True
    )  # fmt: skip

    said = capsys.readouterr()
    assert [json.loads(line)["command_id"] for line in said.out.splitlines()] == shown
    assert (printed, said.err) == (len(shown), hint)
