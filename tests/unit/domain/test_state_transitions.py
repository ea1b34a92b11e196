# The tables of states: every state can be reached and left, and a drawing of one is what Mermaid reads.

from __future__ import annotations

from typing import Any

import pytest

from tests.docs.state_diagrams import diagram
from worker.domain.state_transitions import (
    CALL_STEPS,
    CLEAN_HANDOVER_STEPS,
    PARTITION_STEPS,
    TASK_STEPS,
    TaskState,
)

TABLES = [TASK_STEPS, CALL_STEPS, PARTITION_STEPS, CLEAN_HANDOVER_STEPS]


@pytest.mark.parametrize("steps", TABLES)
def test_every_state_has_a_row_and_can_be_reached(steps: Any) -> None:
    first = next(iter(steps))
    reached, new = {first}, {first}
    while new:
        new = {after for state in new for after in steps[state]} - reached
        reached |= new

    assert set(steps) == set(type(first).__members__.values())
    assert reached == set(steps)


@pytest.mark.parametrize("steps", TABLES)
def test_whatever_happens_the_last_state_can_be_reached(steps: Any) -> None:
    (last,) = [state for state, following in steps.items() if not following]

    assert all(_leads_to(steps, state, last) for state in steps)


def test_a_table_is_drawn_with_its_beginning_its_steps_and_its_end() -> None:
    drawn = diagram({TaskState.BEHIND: frozenset({TaskState.SETTLED}), TaskState.SETTLED: frozenset()})

    assert drawn.splitlines() == [
        "stateDiagram-v2",
        "    [*] --> BEHIND",
        "    BEHIND --> SETTLED",
        "    SETTLED --> [*]",
    ]


def _leads_to(steps: Any, state: Any, last: Any) -> bool:
    reached = {state}
    for _ in steps:
        reached |= {after for each in reached for after in steps[each]}
    return last in reached
