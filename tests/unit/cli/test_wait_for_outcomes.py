# What `send --wait` takes for the outcome that it waits for, and what it does not.

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from worker.cli.shared import NOT_APPLIED, NOT_SENT, WAITS
from worker.cli.wait_for_outcomes import exit_code, follow
from worker.domain.contract.outcomes import Status

if TYPE_CHECKING:
    from worker.broker.outcome_follower import OutcomeFollower
    from worker.cli.wait_for_outcomes import OutcomeHead

OURS = b'{"outcome_id":"commands-0-7","command_id":"c","status":"rejected","error":{"code":"x","message":"no"},"later":1}'


class Records:
    """An outcome topic that holds these records."""

    def __init__(self, *values: bytes) -> None:
        self._values = list(values)

    def poll(self, _seconds: float) -> list[bytes]:
        """All that is there."""
        values, self._values = self._values, []
        return values


def heads_of(*values: bytes) -> list[OutcomeHead]:
    """What is taken for the outcome of commands-0-7."""
    heads: list[OutcomeHead] = []
    follower = cast("OutcomeFollower", Records(*values))
    follow(follower, {"commands-0-7"}, 0.05, lambda head, _value: heads.append(head))
    return heads


def test_an_outcome_is_taken_once_and_that_of_another_command_is_not() -> None:
    (head,) = heads_of(OURS.replace(b"-7", b"-8"), OURS, OURS)

    assert (head.command_id, head.status) == ("c", "rejected")
    assert head.error is not None
    assert head.error.message == "no"


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"null",
        b"[" * 100_000,
        OURS[:-1],
        OURS.replace(b'"rejected"', b'"lost"'),
        OURS.replace(b'"c"', b"null"),
        OURS.replace(b'"command_id":"c",', b""),
        OURS.replace(b'{"code":"x","message":"no"}', b'"no"'),
        OURS.replace(b'"no"', b"1"),
    ],
)
def test_what_another_program_wrote_under_that_id_is_no_outcome(value: bytes) -> None:
    """One that says so little ended `send --wait` in a traceback. The worker's own may come after it."""
    assert heads_of(value) == []
    assert len(heads_of(value, OURS)) == 1


@pytest.mark.parametrize(
    ("statuses", "waits", "code"),
    [
        ([], True, WAITS),
        ([Status.FAILED], True, WAITS),
        ([Status.CANCELLED], True, WAITS),
        ([Status.FAILED, Status.CANCELLED, Status.SUCCEEDED], False, NOT_APPLIED),
        ([Status.EXPIRED, Status.SUCCEEDED], False, NOT_SENT),
        ([Status.SUCCEEDED, Status.DUPLICATE], False, 0),
    ],
)
def test_what_waits_counts_whatever_else_was_found(statuses: list[Status], waits: bool, code: int) -> None:
    """Beside a failure it was not reported: a script took the commands without an outcome for done."""
    assert exit_code(statuses, waits=waits) == code
