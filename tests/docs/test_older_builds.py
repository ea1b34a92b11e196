# What CONTRIBUTING says that a build makes of what it does not know, this build does: so will it be the older one some day.

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.docs.markdown import rows
from tests.docs.test_readme import COMMANDS, OUTCOMES, Shown
from worker.domain.calls import replica_lending
from worker.domain.contract.command_decoding import Command, CommandDecoder
from worker.domain.contract.control_records import ControlRecord, Scope, UnreadableControl, read_control
from worker.domain.contract.outcomes import Worker
from worker.domain.engine_settings import EngineSettings
from worker.domain.progress import commit_metadata
from worker.domain.progress.dedupe import known_of
from worker.domain.progress.lost_commit_recovery import evidence_in

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE: Final = "CONTRIBUTING.md"
ORDER: Final = {"state": "paused", "reason": "r", "by": "b", "at": "2026-11-28T03:00:00Z"}
WHOSE: Final = commit_metadata.label("moderation.commands", "id", 3)


def is_command(**more: Any) -> bool:
    decoder = CommandDecoder(EngineSettings("t", 6, {"main": "administrator"}, "main", Worker("w", "0")))
    return isinstance(decoder.decode(Shown(json.dumps(COMMANDS[0] | more).encode())), Command)


def a_command_is_rejected() -> None:
    assert is_command()
    assert not is_command(action="group.mute_group_member")
    assert not is_command(severity="high")


def a_control_record_is_unreadable() -> None:
    value = json.dumps(ORDER).encode()

    assert isinstance(read_control(Scope(issuer="i").key, value), ControlRecord)
    for key, changed in (
        (Scope(issuer="i").key, json.dumps(ORDER | {"state": "slowed"}).encode()),
        (Scope(issuer="i").key, json.dumps(ORDER | {"severity": "high"}).encode()),
        (b'{"issuer":"i","user":"u"}', value),
    ):
        assert isinstance(read_control(key, changed), UnreadableControl)


def a_quota_message_is_ignored() -> None:
    message = replica_lending.encode(replica_lending.LoanReturn("lane", "borrower", 7))

    assert replica_lending.decode(message) is not None
    assert replica_lending.decode(message.replace(b"return1", b"return2")) is None


def a_commit_is_not_believed() -> None:
    text = commit_metadata.encode(WHOSE, 40, 0b101)
    head = f"mw9;{text.partition(';')[2].rsplit(';', 2)[0]}"
    bitmap = text.rpartition(";")[2]
    newer = f"{head};{zlib.crc32(f'{head};{bitmap}'.encode()):08x};{bitmap}"

    assert commit_metadata.decode(text, WHOSE, 40) == 0b101
    assert len(newer) == len(text)
    assert commit_metadata.decode(newer, WHOSE, 40) is None


def a_field_of_an_outcome_is_ignored() -> None:
    assert known_of(outcome()) is not None
    assert known_of(outcome(severity="high")) == known_of(outcome())


def a_status_tells_nothing_but_that_the_record_is_done() -> None:
    for newer in (outcome(status="muted"), outcome(results=[{"user_id": "user-1", "status": "muted"}])):
        assert known_of(newer) is None
        assert evidence_in(newer) == evidence_in(outcome())


def outcome(**more: Any) -> bytes:
    return json.dumps(OUTCOMES[0] | more).encode()


CLAIMS: Final[dict[str, Callable[[], None]]] = {
    "a command: an action or a field": a_command_is_rejected,
    "the control topic: a state, or a field of a scope or an order": a_control_record_is_unreadable,
    "the quota topic: a message, whose tag has a version": a_quota_message_is_ignored,
    "a commit's metadata: a tag": a_commit_is_not_believed,
    "an outcome: a field": a_field_of_an_outcome_is_ignored,
    "an outcome: a status, of the command or of a user": a_status_tells_nothing_but_that_the_record_is_done,
}


def test_every_row_of_what_builds_share_is_tried() -> None:
    assert [cells[0] for cells in rows(PAGE, "## Beside the build before")] == list(CLAIMS)


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_build_makes_of_what_it_does_not_know_what_the_page_says(claim: str) -> None:
    CLAIMS[claim]()
