# The tables of states as Mermaid draws them, for ARCHITECTURE.md. No test is here.

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping
    from enum import StrEnum

S = TypeVar("S", bound="StrEnum")


def diagram(steps: Mapping[S, frozenset[S]]) -> str:
    """Draw one table as Mermaid draws a state machine."""
    lines = ["stateDiagram-v2", f"    [*] --> {next(iter(steps)).name}"]
    for state, following in steps.items():
        lines += [f"    {state.name} --> {each.name}" for each in steps if each in following]
        if not following:
            lines.append(f"    {state.name} --> [*]")
    return "\n".join(lines) + "\n"
