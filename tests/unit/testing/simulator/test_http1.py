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


def test_expect_100_continue_is_noticed() -> None:
    parser = HttpParser()
    parser.feed(b"POST / HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\n")

    assert parser.next() is None
    assert parser.wants_continue


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
