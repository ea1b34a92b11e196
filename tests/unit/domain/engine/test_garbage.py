# What is finished is freed at once. Were it left to the garbage collector, a backlog would have it stop the loop for half a
# second at a time, and no call would leave.

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.unit.domain.engine_harness import Desk, ban, unban
from worker.domain.contract.commands import Command
from worker.domain.progress.open_commands import MemberQueue, MemberTask, OpenCommand

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BAD_USER = 10019
UNKNOWN_FOR = 3.0
A_PERMIT = 1.0


def applied(desk: Desk) -> None:
    desk.receive(ban("u", "v"))
    desk.ok()


def ridden_with(desk: Desk) -> None:
    desk.receive(ban("x"), ban("u"), ban("u"))
    desk.ok()
    desk.wait(A_PERMIT)
    desk.ok()
    assert desk.engine.snapshot(desk.now).counts.coalesced == 1


def superseded(desk: Desk) -> None:
    desk.receive(unban("x"), unban("u"), ban("u"))
    desk.ok()
    assert desk.engine.snapshot(desk.now).counts.superseded == 1


def repeated(desk: Desk) -> None:
    desk.receive(ban("u", command_id="c"), ban("u", command_id="c"))
    desk.ok()


def searched(desk: Desk) -> None:
    desk.receive(ban("u", "v", "w", "x"))
    while desk.out:
        (request,) = desk.out
        if "w" in request.users:
            desk.code(request, BAD_USER, "no such user")
        else:
            desk.ok(request)
        desk.wait(A_PERMIT)


def tried_again(desk: Desk) -> None:
    desk.receive(ban("u", "v"))
    desk.timeout(desk.request())
    desk.wait(A_PERMIT)
    desk.ask()
    desk.ok()


def rejected(desk: Desk) -> None:
    desk.receive(ban("u", duration=-1))


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
    "story", [applied, ridden_with, superseded, repeated, searched, tried_again, rejected]
)
def test_a_finished_command_leaves_nothing_to_the_garbage_collector(story: Callable[[Desk], None]) -> None:
    with no_collection():
        before = len(alive())
        desk = Desk(default_calls_per_second=1)
        story(desk)
        opened = desk.engine.open
        desk.publish()
        desk.wait(UNKNOWN_FOR)

        assert opened
        assert desk.engine.open == 0
        assert len(alive()) == before
