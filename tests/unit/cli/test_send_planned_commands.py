# The exit code where not all commands were written.

from __future__ import annotations

import pytest

from worker.broker.command_producer import SKIPPED, UNACKNOWLEDGED, UnconfirmedCommand
from worker.cli.send_planned_commands import exit_code_of_unconfirmed
from worker.cli.shared import FAILED, INTERRUPTED

UNKNOWN = UnconfirmedCommand(UNACKNOWLEDGED, may_be_written=True, interrupted=True)
REFUSED = UnconfirmedCommand("the topic is gone")


@pytest.mark.parametrize(
    ("failures", "code"),
    [
        ([], INTERRUPTED),
        ([UNKNOWN, UNKNOWN], INTERRUPTED),
        ([UNKNOWN, REFUSED], FAILED),
        ([REFUSED, UnconfirmedCommand(SKIPPED.format(REFUSED.reason))], FAILED),
    ],
)
def test_an_interrupt_is_distinguished_from_a_failure(failures: list[UnconfirmedCommand], code: int) -> None:
    """Also where the commands were all sent and some not yet acknowledged: nothing failed but the wait."""
    assert exit_code_of_unconfirmed(failures) == code
