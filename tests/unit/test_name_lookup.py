# Names are looked up beside each other: one that hangs holds up no other, and nobody asks twice for one that is asked for.

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from worker.name_lookup import NameLookups

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 10.0


class Resolver:
    """The system's resolver, which answers nothing for ``hangs.test`` until it is released."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.released = threading.Event()
        monkeypatch.setattr(socket, "getaddrinfo", self._resolve)

    def _resolve(self, host: str, *_: object, **__: object) -> list[Any]:
        self.asked.append(host)
        if host == "hangs.test":
            self.released.wait(PATIENCE)
        if host == "nowhere.test":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        place = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))
        return [place, place, (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0))]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    made = Resolver(monkeypatch)
    yield made
    made.released.set()


def test_a_name_that_hangs_holds_up_no_other_and_is_asked_for_once(resolver: Resolver) -> None:
    lookups = NameLookups("names")
    hanging = [lookups.addresses("hangs.test") for _ in range(20)]

    assert lookups.addresses("there.test").result(PATIENCE) == ["127.0.0.1", "::1"]
    assert not any(each.done() for each in hanging)
    resolver.released.set()
    assert [each.result(PATIENCE) for each in hanging] == [["127.0.0.1", "::1"]] * 20
    assert resolver.asked.count("hangs.test") == 1


def test_a_name_is_looked_up_again_once_the_answer_is_there(resolver: Resolver) -> None:
    lookups = NameLookups("names")
    lookups.addresses("there.test").result(PATIENCE)
    lookups.addresses("there.test").result(PATIENCE)

    assert resolver.asked == ["there.test"] * 2


def test_one_that_waits_for_a_name_cannot_end_it_for_the_others(resolver: Resolver) -> None:
    lookups = NameLookups("names")
    asked = lookups.addresses("hangs.test")

    assert not asked.cancel()
    resolver.released.set()
    assert asked.result(PATIENCE)


@pytest.mark.usefixtures("resolver")
def test_a_name_without_an_address_fails_with_what_the_resolver_says() -> None:
    with pytest.raises(socket.gaierror, match="Name or service not known"):
        NameLookups("names").addresses("nowhere.test").result(PATIENCE)


def test_what_is_no_name_at_all_fails_in_the_same_way() -> None:
    with pytest.raises(OSError, match="not a name of a host"):
        NameLookups("names").addresses("a" * 64 + ".test").result(PATIENCE)


@pytest.mark.usefixtures("resolver")
def test_a_name_that_no_thread_could_look_up_is_looked_up_by_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start, failures = threading.Thread.start, [RuntimeError("can't start new thread")]

    def fails_once(thread: threading.Thread) -> None:
        if failures:
            raise failures.pop()
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", fails_once)
    lookups = NameLookups("names")

    with pytest.raises(OSError, match="no thread"):
        lookups.addresses("there.test").result(PATIENCE)
    assert lookups.addresses("there.test").result(PATIENCE)
