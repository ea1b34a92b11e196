# HTTP/1.1 in pieces: however the bytes arrive, the requests are the same.

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.testing.simulator.http1 import (
    MAX_BODY,
    MAX_HEAD,
    HttpParser,
    HttpRequest,
    UnreadableRequest,
    answer,
    query_of,
)

FIRST = b"POST /v4/a/b?x=1&usersig=secret HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
SECOND = b"GET /__control/stats HTTP/1.1\r\nhost:h\r\nCONNECTION:  Close\r\n\r\n"


def items_of(*pieces: bytes) -> list[HttpRequest | UnreadableRequest]:
    parser, items = HttpParser(), []
    for piece in pieces:
        parser.feed(piece)
        while (item := parser.next()) is not None:
            items.append(item)
    return items


@given(st.lists(st.integers(0, len(FIRST * 2 + SECOND)), max_size=8))
def test_requests_come_out_whole_and_in_order_however_they_are_cut(cuts: list[int]) -> None:
    whole = FIRST + FIRST + SECOND
    edges = [0, *sorted(cuts), len(whole)]

    items = items_of(*(whole[start:end] for start, end in pairwise(edges)))

    first = HttpRequest("POST", "/v4/a/b", "x=1&usersig=secret", b"hello", keep_alive=True, host="h")
    assert items == [
        first,
        first,
        HttpRequest("GET", "/__control/stats", "", b"", keep_alive=False, host="h"),
    ]


def test_a_request_is_complete_only_with_the_last_byte_of_its_body() -> None:
    assert items_of(FIRST[:-1]) == []


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/2\r\n\r\n", 400),
        (b"GET http://h/ HTTP/1.1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        (b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY + 1), 413),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * MAX_HEAD, 431),
    ],
)
def test_what_cannot_be_read_is_refused_and_nothing_after_it_is_read(sent: bytes, status: int) -> None:
    (item,) = items_of(sent, FIRST)

    assert isinstance(item, UnreadableRequest)
    assert item.status == status


@pytest.mark.parametrize(
    ("head", "keep_alive"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\nConnection: upgrade, CLOSE\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", True),
        (b"\r\n\r\nGET / HTTP/1.1\r\n\r\n", True),
    ],
)
def test_a_connection_is_kept_alive_when_the_client_asks_for_it(head: bytes, keep_alive: bool) -> None:
    (item,) = items_of(head)

    assert isinstance(item, HttpRequest)
    assert item.keep_alive is keep_alive


@pytest.mark.parametrize(
    "last",
    [
        b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx",
    ],
)
def test_after_a_request_that_asks_for_the_end_nothing_more_is_read(last: bytes) -> None:
    """RFC 9112, 9.6: a client may not expect an answer to what it sends after it, so nothing may come of it."""
    assert len(items_of(last + FIRST, FIRST)) == 1
    assert len(items_of(FIRST + last, FIRST, FIRST)) == 2


@pytest.mark.parametrize("last", [b"GARBAGE\r\n\r\n", b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n"])
def test_what_follows_the_last_request_takes_no_memory(last: bytes) -> None:
    """While the answer before it was late, an endless stream was kept: 300 MB sent were 300 MB held."""
    parser = HttpParser()
    parser.feed(last + b"x" * 1_000)
    assert parser.next() is not None

    for _ in range(10):
        parser.feed(b"x" * 1_000)

    assert parser.next() is None
    assert repr(parser) == "<HttpParser 0 bytes waiting>"


def test_expect_100_continue_is_noticed() -> None:
    parser = HttpParser()
    parser.feed(b"POST / HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\n")

    assert parser.next() is None
    assert parser.wants_continue


@pytest.mark.parametrize(
    "sent",
    [
        b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
        b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 9999999\r\n\r\n",
    ],
    ids=["whole", "too long"],
)
def test_nobody_who_has_sent_all_or_was_refused_gets_an_interim_answer(sent: bytes) -> None:
    """The interim answer came after the last one, where a client takes it for the beginning of the next."""
    parser = HttpParser()
    parser.feed(sent)

    assert parser.next() is not None
    assert parser.next() is None
    assert not parser.wants_continue


@pytest.mark.parametrize(
    "target", ["群", "%E7%BE%A4", "\u00e7%BE%A4"], ids=["as typed", "encoded", "half and half"]
)
def test_a_url_may_be_utf8_as_it_was_typed(target: str) -> None:
    """curl sends it so: the state of another group was shown, whose name is the same bytes read as Latin-1."""
    raw = target.encode("latin-1" if target.startswith("\u00e7") else "utf-8")
    (item,) = items_of(
        b"GET /v4/" + "群".encode() + b"?target=" + raw + b"&" + raw + b"=%ff HTTP/1.1\r\n\r\n"
    )

    assert isinstance(item, HttpRequest)
    assert item.path == "/v4/群"
    assert query_of(item.query) == {"target": "群", "群": "\ufffd"}


def test_a_query_is_decoded() -> None:
    assert query_of("a=1&b=%2A%e7%ae%a1&c=x+y&d&a=2&&=z") == {
        "a": "2",
        "b": "*管",
        "c": "x y",
        "d": "",
        "": "z",
    }


def test_the_signature_in_a_url_does_not_show_in_a_repr() -> None:
    (item,) = items_of(FIRST)

    assert "secret" not in repr(item)


def test_an_answer_says_its_length_and_whether_the_connection_ends() -> None:
    kept, closed = answer(200, b"{}"), answer(502, "é".encode(), content_type="text/html", keep_alive=False)

    assert kept.startswith(b"HTTP/1.1 200 OK\r\n")
    assert kept.endswith(b"Content-Length: 2\r\n\r\n{}")
    assert b"Connection" not in kept
    assert b"Content-Length: 2\r\nConnection: close\r\n\r\n" in closed
