# Everything wrong with the topics is reported at once, each problem with its setting and its remedy.

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.unit.broker.test_client_config import options
from worker.broker.topics import Topic, TopicsReport, changes, problems

GOOD = TopicsReport(
    Topic("commands", 6, frozenset({"delete"}), 604_800.0, 1_048_588),
    Topic("outcomes", 6, frozenset({"delete"}), 604_800.0, 1_048_588),
    Topic("dead-letters", 1, frozenset({"delete"}), float("inf"), 1_048_588),
)


def told(report: TopicsReport, **chosen: Any) -> list[tuple[str, str]]:
    found = problems(report, options(**chosen), dedupe_window=3600.0)
    return [(problem.name, problem.remedy) for problem in found]


def with_outcome(**changes: Any) -> TopicsReport:
    assert GOOD.outcome is not None
    return replace(GOOD, outcome=replace(GOOD.outcome, **changes))


def test_good_topics_have_no_problem() -> None:
    assert told(GOOD) == []


def test_a_topic_that_does_not_exist_is_named_with_the_command_that_makes_it() -> None:
    found = problems(TopicsReport(None, None, None), options(), dedupe_window=3600.0)

    assert [(problem.name, problem.value) for problem in found] == [
        ("kafka.command_topics", "commands"),
        ("kafka.outcome_topic", "outcomes"),
        ("kafka.dead_letter_topic", "dead-letters"),
    ]
    assert all("topics create --config" in problem.remedy for problem in found)


def test_fewer_partitions_for_outcomes_than_for_commands_is_a_problem() -> None:
    ((name, remedy),) = told(with_outcome(partitions=5))

    assert name == "kafka.outcome_topic"
    assert "5 partitions and the command topic 6" in remedy
    assert told(with_outcome(partitions=7)) == []


def test_compaction_is_a_problem_even_beside_deletion() -> None:
    ((name, remedy),) = told(with_outcome(cleanup=frozenset({"compact", "delete"})))

    assert name == "kafka.outcome_topic"
    assert "compact,delete" in remedy


def test_outcomes_that_go_before_the_dedupe_window_ends_are_a_problem() -> None:
    ((name, remedy),) = told(with_outcome(retention=3599.0))

    assert name == "kafka.outcome_topic"
    assert "3599 s" in remedy
    assert told(with_outcome(retention=3600.0)) == []


def test_records_that_the_topic_would_refuse_are_a_problem() -> None:
    ((name, remedy),) = told(with_outcome(message_bytes=500_000))

    assert name == "kafka.outcome_topic"
    assert "max.message.bytes is 500000" in remedy
    assert told(with_outcome(message_bytes=500_000), producer={"max_request_size": 400_000}) == []


def test_a_limit_below_what_a_large_outcome_takes_is_a_problem() -> None:
    ((name, _),) = told(GOOD, producer={"max_request_size": 100_000})

    assert name == "kafka.producer.max_request_size"


def test_another_topic_of_the_name_is_told_with_both_ids() -> None:
    """
    Of a broker that gives no ids, or a topic that is gone, nothing can be said.
    """
    found = []
    for was, now in (("a", "b"), ("a", "a"), ("a", None), (None, "b")):
        for which in ("command", "outcome"):
            first, second = (
                replace(GOOD, **{which: replace(getattr(GOOD, which), topic_id=topic_id)})
                for topic_id in (was, now)
            )
            found.append(changes(first, second, options(), dedupe_window=3600.0)[0])

    assert found[2:] == [None] * 6
    assert [text is not None and "its id was a and is b" in text for text in found[:2]] == [True, True]


def test_what_stops_nothing_is_told_and_is_no_obstacle() -> None:
    """
    The publisher copes with a smaller size; too short a retention is for a person to know of.
    """
    now = with_outcome(retention=60.0, message_bytes=5_000)

    refusal, obstacles, every = changes(GOOD, now, options(), dedupe_window=3600.0)

    assert (refusal, obstacles) == (None, [])
    assert len(every) == 2


def test_compaction_that_was_switched_on_later_is_an_obstacle() -> None:
    now = with_outcome(cleanup=frozenset({"compact"}))

    _, obstacles, every = changes(GOOD, now, options(), dedupe_window=3600.0)

    assert obstacles == every
    assert "compact" in obstacles[0].remedy


def test_what_may_not_be_read_is_not_held_against_a_topic() -> None:
    assert told(with_outcome(cleanup=None, retention=None, message_bytes=None)) == []
