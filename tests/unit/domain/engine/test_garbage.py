# What is finished is freed at once. Were it left to the garbage collector, a backlog would have it stop the loop for half a
# second at a time, and no call would leave.

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.unit.domain.engine_harness import EngineHarness, ban, unban
from worker.domain.contract.command_decoding import Command
from worker.domain.progress.open_commands import MemberQueue, MemberTask, OpenCommand

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BAD_USER = 10019
UNKNOWN_FOR = 3.0
A_PERMIT = 1.0


def applied(harness: EngineHarness) -> None:
    harness.receive(ban("u", "v"))
    harness.ok()


def ridden_with(harness: EngineHarness) -> None:
    harness.receive(ban("x"), ban("u"), ban("u"))
    harness.ok()
    harness.wait(A_PERMIT)
    harness.ok()
    assert harness.engine.snapshot(harness.now).counts.coalesced == 1


def superseded(harness: EngineHarness) -> None:
    harness.receive(unban("x"), unban("u"), ban("u"))
    harness.ok()
    assert harness.engine.snapshot(harness.now).counts.superseded == 1


def repeated(harness: EngineHarness) -> None:
    harness.receive(ban("u", command_id="c"), ban("u", command_id="c"))
    harness.ok()


def searched(harness: EngineHarness) -> None:
    harness.receive(ban("u", "v", "w", "x"))
    while harness.out:
        (request,) = harness.out
        if "w" in request.users:
            harness.code(request, BAD_USER, "no such user")
        else:
            harness.ok(request)
        harness.wait(A_PERMIT)


def tried_again(harness: EngineHarness) -> None:
    harness.receive(ban("u", "v"))
    harness.timeout(harness.request())
    harness.wait(A_PERMIT)
    harness.request_permit()
    harness.ok()


def rejected(harness: EngineHarness) -> None:
    harness.receive(ban("u", duration=-1))


@contextmanager
def no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def alive() -> list[object]:
    return [
        each
        for each in gc.get_objects()
        if isinstance(each, OpenCommand | MemberTask | MemberQueue | Command)
    ]


@pytest.mark.parametrize(
    "lifecycle", [applied, ridden_with, superseded, repeated, searched, tried_again, rejected]
)
def test_a_finished_command_leaves_nothing_to_the_garbage_collector(
    lifecycle: Callable[[EngineHarness], None],
) -> None:
    with no_collection():
        before = len(alive())
        harness = EngineHarness(default_calls_per_second=1)
        lifecycle(harness)
        opened = harness.engine.open_count
        harness.publish()
        harness.wait(UNKNOWN_FOR)

        assert opened
        assert harness.engine.open_count == 0
        assert len(alive()) == before
