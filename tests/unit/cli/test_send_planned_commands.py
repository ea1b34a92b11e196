# The exit code where not all commands were written.

from __future__ import annotations

import pytest

from worker.broker.command_producer import SKIPPED, UNACKNOWLEDGED, UnwrittenCommand
from worker.cli.send_planned_commands import exit_code_of_unwritten
from worker.cli.shared import FAILED, INTERRUPTED

UNKNOWN = UnwrittenCommand(UNACKNOWLEDGED, may_be_written=True)
REFUSED = UnwrittenCommand("the topic is gone")


@pytest.mark.parametrize(
    ("failures", "code"),
    [
        ([], INTERRUPTED),
        ([UNKNOWN, UNKNOWN], INTERRUPTED),
        ([UNKNOWN, REFUSED], FAILED),
        ([REFUSED, UnwrittenCommand(SKIPPED.format(REFUSED.reason))], FAILED),
    ],
)
def test_an_interrupt_is_told_apart_from_a_failure(failures: list[UnwrittenCommand], code: int) -> None:
    """Also where the commands were all sent and some not yet acknowledged: nothing failed but the wait."""
    assert exit_code_of_unwritten(failures) == code
