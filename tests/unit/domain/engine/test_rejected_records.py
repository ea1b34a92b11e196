# A rejected record has a line in the log, with what it takes to find its issuer; a flood of them does not flood the log.

from __future__ import annotations

from typing import Any

from tests.unit.domain.engine_harness import EngineHarness, Record, ban
from worker.domain.rejection_log import LINES


def lines(harness: EngineHarness, event: str = "record.rejected") -> list[dict[str, Any]]:
    return [dict(notice.fields) for notice in harness.log_events if notice.event == event]


def fetch(harness: EngineHarness, *values: bytes) -> None:
    """Records with these values come."""
    for value in values:
        record = harness.record({})
        harness.fetch([Record(record.partition, record.offset, record.key, value)])


def test_a_rejection_names_issuer_id_code_and_field() -> None:
    """Whoever is on call sees at once whose records they are, before anybody complains."""
    harness = EngineHarness()

    harness.receive(ban("u", issuer="detector-7", duration=-1) | {"command_id": "c-9"})

    (line,) = lines(harness)
    offset = line.pop("offset")
    assert line == {
        "partition": 0,
        "issuer": "detector-7",
        "command_id": "c-9",
        "code": "out_of_range",
        "field": "duration",
    }
    assert [outcome.outcome_id.rpartition("-")[2] for outcome in harness.publish()] == [str(offset)]


def test_what_could_not_be_read_is_absent_from_the_line() -> None:
    harness = EngineHarness()

    fetch(harness, b"nonsense")

    assert [(line["issuer"], line["command_id"], line["code"], line["field"]) for line in lines(harness)] == [
        (None, None, "not_json", None)
    ]


def test_foreign_text_is_short_and_printable_in_the_line() -> None:
    """The issuer is whatever a stranger wrote."""
    harness = EngineHarness()

    harness.receive(ban("u", issuer="\x1b[31m" + "x" * 400))

    (line,) = lines(harness)
    assert line["issuer"].isprintable()
    assert len(line["issuer"]) < 150


def test_an_id_that_is_reused_for_something_else_has_a_line_and_names_its_users() -> None:
    harness = EngineHarness()
    harness.receive(ban("u") | {"command_id": "c"})

    harness.receive(ban("v", "w") | {"command_id": "c"})

    assert [line["code"] for line in lines(harness)] == ["command_id_reused"]
    assert [outcome.user_ids for outcome in harness.publish() if outcome.error] == [("v", "w")]


def test_a_flood_of_rejections_has_some_lines_and_a_summary_a_second() -> None:
    harness = EngineHarness()

    for _ in range(3):
        for number in range(500):
            fetch(harness, b"nonsense" if number % 2 else b"[]")
        harness.wait(1.0)

    assert len(lines(harness)) == 3 * LINES
    assert [line["count"] for line in lines(harness, "rejections.omitted")] == [500 - LINES] * 3
    assert {line["codes"] for line in lines(harness, "rejections.omitted")} == {"not_an_object, not_json"}


def test_where_every_rejection_has_its_line_there_is_no_summary() -> None:
    harness = EngineHarness()
    fetch(harness, b"nonsense")

    harness.wait(5.0)

    assert lines(harness, "rejections.omitted") == []
