# Everything wrong with the topics is reported at once, each problem with its setting and its remedy.

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from kafka import errors

from tests.unit.broker.test_client_config import options
from worker.broker import topic_admin
from worker.broker.topic_admin import Topic, WorkerTopics, changes, control_problems, create_missing, problems
from worker.errors import BrokerError

GOOD = WorkerTopics(
    Topic("commands", 6, frozenset({"delete"}), 604_800.0, 1_048_588),
    Topic("outcomes", 6, frozenset({"delete"}), 604_800.0, 1_048_588),
    Topic("dead-letters", 1, frozenset({"delete"}), float("inf"), 1_048_588),
)


def problems_with(report: WorkerTopics, **chosen: Any) -> list[tuple[str, str]]:
    found = problems(report, options(**chosen), dedupe_window=3600.0)
    return [(problem.name, problem.remedy) for problem in found]


def with_outcome(**changes: Any) -> WorkerTopics:
    assert GOOD.outcome is not None
    return replace(GOOD, outcome=replace(GOOD.outcome, **changes))


def test_good_topics_have_no_problem() -> None:
    assert problems_with(GOOD) == []


def test_a_topic_that_does_not_exist_is_named_with_the_command_that_makes_it() -> None:
    found = problems(WorkerTopics(None, None, None), options(), dedupe_window=3600.0)

    assert [(problem.name, problem.value) for problem in found] == [
        ("kafka.command_topics", "commands"),
        ("kafka.outcome_topic", "outcomes"),
        ("kafka.dead_letter_topic", "dead-letters"),
    ]
    assert all("topics create --config" in problem.remedy for problem in found)


def test_fewer_partitions_for_outcomes_than_for_commands_is_a_problem() -> None:
    ((name, remedy),) = problems_with(with_outcome(partitions=5))

    assert name == "kafka.outcome_topic"
    assert "5 partitions and the command topic 6" in remedy
    assert problems_with(with_outcome(partitions=7)) == []


def test_compaction_is_a_problem_even_beside_deletion() -> None:
    ((name, remedy),) = problems_with(with_outcome(cleanup=frozenset({"compact", "delete"})))

    assert name == "kafka.outcome_topic"
    assert "compact,delete" in remedy


def test_outcomes_that_go_before_the_dedupe_window_ends_are_a_problem() -> None:
    ((name, remedy),) = problems_with(with_outcome(retention=3599.0))

    assert name == "kafka.outcome_topic"
    assert "3599 s" in remedy
    assert problems_with(with_outcome(retention=3600.0)) == []


def test_records_that_the_topic_would_refuse_are_a_problem() -> None:
    ((name, remedy),) = problems_with(with_outcome(message_bytes=500_000))

    assert name == "kafka.outcome_topic"
    assert "max.message.bytes is 500000" in remedy
    assert problems_with(with_outcome(message_bytes=500_000), producer={"max_request_size": 400_000}) == []


def test_a_limit_below_what_a_large_outcome_takes_is_a_problem() -> None:
    ((name, _),) = problems_with(GOOD, producer={"max_request_size": 100_000})

    assert name == "kafka.producer.max_request_size"


def test_another_topic_of_the_name_is_reported_with_both_ids() -> None:
    """Of a broker that gives no ids, or a topic that is gone, nothing can be said."""
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


def test_what_stops_nothing_is_reported_and_is_no_obstacle() -> None:
    """The publisher copes with a smaller size; too short a retention is for a person to know of."""
    now = with_outcome(retention=60.0, message_bytes=5_000)

    fault, obstacles, every = changes(GOOD, now, options(), dedupe_window=3600.0)

    assert (fault, obstacles) == (None, [])
    assert len(every) == 2


def test_compaction_that_was_switched_on_later_is_an_obstacle() -> None:
    now = with_outcome(cleanup=frozenset({"compact"}))

    _, obstacles, every = changes(GOOD, now, options(), dedupe_window=3600.0)

    assert obstacles == every
    assert "compact" in obstacles[0].remedy


def test_what_may_not_be_read_is_not_held_against_a_topic() -> None:
    assert problems_with(with_outcome(cleanup=None, retention=None, message_bytes=None)) == []


@dataclass
class Controller:
    """The part of the admin client that creates topics, with the answers that a cluster on loopback does not give."""

    answers: dict[str, tuple[type[errors.BrokerResponseError], str]] = field(default_factory=dict)
    fails: Exception | None = None
    unready: Exception | None = None

    def describe_topics(self, names: list[str]) -> list[dict[str, Any]]:
        return [{"name": name, "error_code": 3} for name in names]

    def create_topics(self, wanted: dict[str, Any], *, raise_errors: bool) -> dict[str, Any]:
        assert not raise_errors, "kafka-python would raise the whole response"
        if self.fails is not None:
            raise self.fails
        answered = {name: self.answers.get(name, (errors.NoError, "")) for name in wanted}
        return {
            "topics": [
                {"name": name, "error_code": error.errno, "error_message": text or None}
                for name, (error, text) in answered.items()
            ]
        }

    def wait_for_topics(self, _names: list[str]) -> None:
        if self.unready is not None:
            raise self.unready

    def close(self) -> None:
        pass


def refused(monkeypatch: pytest.MonkeyPatch, controller: Controller) -> str:
    monkeypatch.setattr(topic_admin, "_admin", lambda _: controller)
    with pytest.raises(BrokerError) as refusal:
        create_missing(options(), partitions=3, replication=-1)
    return str(refusal.value)


@pytest.mark.parametrize(
    ("error", "kafkas_words", "expected"),
    [
        (errors.InvalidReplicationFactorError, "only 1 broker(s) are\nregistered.", "give a smaller --replication-factor (only 1 broker(s) are registered)"),
        (errors.TopicAuthorizationFailedError, "", "grant Create on the topic, or have an administrator create it"),
        (errors.ClusterAuthorizationFailedError, "", "grant Create on the topic"),
        (errors.InvalidPartitionsError, "at most 2", "give another --partitions (at most 2)"),
        (errors.InvalidConfigurationError, "retention.ms is locked", "does not accept the configuration of a new topic (retention.ms is locked)"),
        (errors.InvalidTopicError, "", "change it in the settings"),
        (errors.PolicyViolationError, "names begin with a team", "a policy of the cluster forbids it: ask whoever runs Kafka, or have them create it (names begin with a team)"),
        (errors.RequestTimedOutError, "", "run the same command again"),
        (errors.ThrottlingQuotaExceededError, "", "run the same command again later"),
        (errors.UnknownError, "", "UnknownError"),
        (errors.UnknownError, "x" * 9_000, "xxx"),
    ],
)  # fmt: skip
def test_why_kafka_creates_no_topic_is_one_sentence_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, error: type[errors.BrokerResponseError], kafkas_words: str, expected: str
) -> None:
    controller = Controller({"outcomes": (error, kafkas_words)})

    said = refused(monkeypatch, controller)

    assert said.startswith("the topics cannot be created (commands, dead-letters were created): outcomes: ")
    assert expected in said
    assert "\n" not in said
    assert len(said) < 520


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("Failed to find active controller id!"), "the cluster is changing its controller"),
        (errors.IncompatibleBrokerVersion("Broker version (2, 3) requires"), "give --replication-factor"),
        (errors.RequestTimedOutError("Request 'x' failed with response 'y'"), "Kafka did not finish in time"),
        (errors.UnknownError("Request 'x' failed with response 'y'"), "UnknownError: "),
    ],
)
def test_a_request_that_fails_whole_is_one_sentence_without_the_request(
    monkeypatch: pytest.MonkeyPatch, error: Exception, expected: str
) -> None:
    """A controller that moves twice was a RuntimeError of kafka-python's, and so a traceback."""
    said = refused(monkeypatch, Controller(fails=error))

    assert said.startswith("the topics cannot be created: ")
    assert expected in said
    assert "Request '" not in said


def test_topics_that_are_created_and_not_served_yet_are_reported_as_created(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = refused(monkeypatch, Controller(unready=errors.KafkaTimeoutError("Topics not ready: {'a': 'p0'}")))

    assert said.startswith("commands, outcomes, dead-letters were created, but Kafka does not serve")


def test_a_control_topic_that_is_compacted_and_has_one_partition_fits() -> None:
    fit = Topic("control", 1, frozenset({"compact"}))

    assert control_problems(fit) == []
    assert control_problems(replace(fit, cleanup=None)) == []
    assert control_problems(None) == []
    assert problems_with(replace(GOOD, control=fit)) == []


def test_a_control_topic_with_two_partitions_or_deletion_is_a_problem_with_a_remedy() -> None:
    """Deletion would end a pause that is still in force, and release what it holds."""
    found = problems_with(replace(GOOD, control=Topic("control", 2, frozenset({"compact", "delete"}))))

    assert [name for name, _ in found] == ["kafka.control_topic"] * 2
    assert "it has 2 partitions" in found[0][1]
    assert "cleanup.policy is compact,delete" in found[1][1]
    assert "--add-config cleanup.policy=compact" in found[1][1]


def test_a_control_topic_that_becomes_unfit_or_is_recreated_is_left_to_its_follower() -> None:
    """It is read again. Another id of the command topic would end the worker."""
    first = replace(GOOD, control=Topic("control", 1, frozenset({"compact"}), topic_id="a"))
    now = replace(first, control=Topic("control", 3, frozenset({"compact"}), topic_id="b"))

    assert changes(first, now, options(), dedupe_window=3600.0) == (None, [], [])


def test_a_control_topic_whose_policy_is_changed_to_deletion_is_a_problem_and_an_obstacle() -> None:
    """Its follower looks at the policy only when it begins to read. Nobody else did: a pause would have been deleted without a word."""
    first = replace(GOOD, control=Topic("control", 1, frozenset({"compact"}), topic_id="a"))
    now = replace(first, control=Topic("control", 1, frozenset({"delete"}), topic_id="a"))

    fault, obstacles, found = changes(first, now, options(), dedupe_window=3600.0)

    assert fault is None
    assert obstacles == found
    assert ["cleanup.policy=compact" in problem.remedy for problem in found] == [True]
