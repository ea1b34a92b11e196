# What a command's headers say: CloudEvents' id and time where the record has none, and the trace.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.domain.samples import (
    BAN,
    EVERYTHING,
    command,
    decode,
    rejected,
    without,
)

if TYPE_CHECKING:
    from tests.unit.domain.samples import Headers


@pytest.mark.parametrize(
    "value", [without(EVERYTHING, "command_id", "issued_at"), without(BAN, "command_id", "action")]
)
def test_cloudevents_headers_stand_in_for_an_absent_id_and_time(value: dict[str, Any]) -> None:
    decoded = decode(value, (("ce_id", b"e-1"), ("ce_time", b"2030-01-01T00:00:00Z"), ("ce_type", b"ban")))

    assert (decoded.command_id, decoded.issued_at) == ("e-1", "2030-01-01T00:00:00Z")


@pytest.mark.parametrize("value", [EVERYTHING, {**EVERYTHING, "zzz": 1}])
def test_the_records_own_id_and_time_go_before_its_headers(value: dict[str, Any]) -> None:
    decoded = decode(value, (("ce_id", b"e-1"), ("ce_time", b"2030-01-01T00:00:00Z")))

    assert (decoded.command_id, decoded.issued_at) == ("c-1", EVERYTHING["issued_at"])


@pytest.mark.parametrize("value", [None, b"", b"nonsense", b"[]"])
def test_a_record_that_is_no_object_still_has_the_id_of_its_header(value: bytes | None) -> None:
    assert rejected(value, (("ce_id", b"e-1"),)).command_id == "e-1"


def test_a_broken_id_in_the_record_is_not_replaced_by_a_header() -> None:
    """Two ids, one of them broken: which one the issuer waits for cannot be known."""
    assert rejected({**BAN, "command_id": ""}, (("ce_id", b"e-1"),)).command_id is None


@pytest.mark.parametrize("header", [None, b"", b"\xff", b"a\nb", b"x" * 129])
def test_a_header_that_is_not_usable_is_as_good_as_absent(header: bytes | None) -> None:
    refused = rejected(without(BAN, "command_id"), (("ce_id", header), ("traceparent", header)))

    assert (refused.code, refused.command_id, refused.traceparent) == ("missing_field", None, None)


def test_of_a_repeated_header_the_last_counts() -> None:
    headers: Headers = (("ce_id", b"first"), ("ce_id", b"last"), ("ce_id", None))

    assert command(without(BAN, "command_id"), headers).command_id == "last"


@pytest.mark.parametrize("value", [BAN, {**BAN, "zzz": 1}, None])
def test_the_trace_is_carried_on(value: dict[str, Any] | None) -> None:
    trace = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    assert decode(value, (("traceparent", trace),)).traceparent == trace.decode()
