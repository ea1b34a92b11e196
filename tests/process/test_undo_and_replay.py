# `undo` and `dead-letters` on a real Kafka, as a user runs them: what is sent, where it goes, what is left out, exit codes.

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from tests.process.test_topics_and_check import config as config
from tests.process.test_topics_and_check import worker
from worker.domain.contract.dead_letter_encoding import DeadLetter, fit
from worker.domain.contract.outcomes import Outcome, Result, ResultStatus, Source, Status, Worker
from worker.domain.contract.parameters import Parameters
from worker.domain.contract.placement_check import partition_of
from worker.domain.contract.timestamps import rfc3339

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Cluster

pytestmark = pytest.mark.kafka

PARTITIONS = 4


class Original(msgspec.Struct):
    """A record of the command topic."""

    partition: int
    offset: int
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes | None]] = []


class Topics:
    """The topics of a worker that does not run, with what it would have written."""

    def __init__(self, cluster: Cluster, config: Path) -> None:
        text = config.read_text()
        self.commands = text.split("command_topics: [")[1].split("]")[0]
        self.outcomes = text.split("outcome_topic: ")[1].split()[0]
        self.letters = text.split("dead_letter_topic: ")[1].split()[0]
        self.config = str(config)
        self.servers = cluster.bootstrap_servers
        self.producer = KafkaProducer(bootstrap_servers=cluster.bootstrap_servers)
        self._offsets: dict[int, int] = {}

    def outcome(self, group: str, *users: str, issuer: str = "mad", **changes: Any) -> Outcome:
        """Write the outcome of a ban that was applied, as if it were of the next command of its group."""
        partition = partition_of(group.encode(), PARTITIONS)
        offset = self._offsets[partition] = self._offsets.get(partition, -1) + 1
        now = rfc3339(time.time())
        source = Source(self.commands, partition, offset)
        action = changes.pop("action", "group.ban_group_member")
        target: dict[str, Any] = {"room_id" if action.startswith("room") else "group_id": group}
        status = changes.pop("result", ResultStatus.APPLIED)
        made = Outcome(
            outcome_id=source.outcome_id,
            command_id=changes.pop("command_id", source.outcome_id),
            status=changes.pop("status", Status.SUCCEEDED),
            source=source,
            worker=Worker("w", "0"),
            received_at=now,
            finished_at=now,
            queued_ms=0.0,
            attempts=1,
            action=action,
            app="main",
            issuer=issuer,
            parameters=Parameters(duration=86_400),
            results=[Result(user, status) for user in users],
            **target,
        )
        self.producer.send(self.outcomes, msgspec.json.encode(made), group.encode(), partition=partition).get(
            30
        )
        return made

    def letter(self, group: str, user: str, code: str = "10010", **changes: Any) -> bytes:
        """Write a failed ban: its outcome and its dead letter. Return the value of its command."""
        status, result = Status.FAILED, ResultStatus.FAILED
        outcome = self.outcome(group, user, issuer="detector", status=status, result=result, **changes)
        command = {
            "command_id": outcome.command_id,
            "action": "group.ban_group_member",
            "group_id": group,
            "user_ids": [user],
            "duration": 60,
            "issuer": "detector",
        }
        value = json.dumps(command).encode()
        source = outcome.source
        original = Original(source.partition, source.offset, group.encode(), value, [("traceparent", b"t")])
        fitted = fit(DeadLetter(original, source.topic, outcome.outcome_id, code, "no such group"), 1_000_000)
        self.producer.send(self.letters, fitted.value, fitted.key, fitted.headers).get(30)
        return value

    def sent(self) -> list[Any]:
        """Return everything in the command topic, each partition's in order."""
        reader = KafkaConsumer(bootstrap_servers=self.servers, auto_offset_reset="earliest")
        places = [TopicPartition(self.commands, number) for number in range(PARTITIONS)]
        reader.assign(places)
        ends = reader.end_offsets(places)
        found: list[Any] = []
        while any(reader.position(place) < end for place, end in ends.items()):
            for batch in reader.poll(timeout_ms=500).values():
                found += batch
        reader.close(autocommit=False)
        return found

    def ask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return worker(*arguments, "--config", self.config, environ={})


@pytest.fixture
def topics(kafka: Cluster, config: Path) -> Iterator[Topics]:
    made = worker("topics", "create", "--partitions", str(PARTITIONS), "--config", str(config), environ={})
    assert made.returncode == 0, made.stderr
    opened = Topics(kafka, config)
    yield opened
    opened.producer.close(timeout=5)


def test_an_undo_is_shown_then_sent_and_then_there_is_nothing_left_to_undo(topics: Topics) -> None:
    for group in ("g1", "g2"):
        topics.outcome(group, "a", "b")
        topics.outcome(group, "c", issuer="good")
    topics.outcome("g1", "d")
    topics.outcome("g1", "b", issuer="desk", action="group.unban_group_member")
    topics.outcome("r1", "k", action="room.kick_user_out")
    question = ("undo", "--issuer", "mad", "--since", "1h", "--reason", "false alarm")

    shown = topics.ask(*question)
    before = topics.sent()
    done = topics.ask(*question, "--send")
    records = topics.sent()
    again = topics.ask(*question, "--send")

    assert (shown.returncode, before) == (7, [])
    assert "6 effects of issuer mad since 1h" in shown.stdout
    assert (
        "        4  would be undone by group.unban_group_member: commands: 2, groups or rooms: 2"
        in shown.stdout
    )
    assert "        1  not undone: a later command touched them" in shown.stdout
    assert "        1  not undone: room.kick_user_out cannot be undone" in shown.stdout
    assert "nothing was sent" in shown.stdout
    assert done.returncode == 7, done.stderr
    assert "        4  being undone by group.unban_group_member" in done.stdout
    assert f"2 of 2 commands are in {topics.commands}" in done.stdout
    found = {record.key: json.loads(record.value) for record in records}
    assert {key: value["user_ids"] for key, value in found.items()} == {b"g1": ["a", "d"], b"g2": ["a", "b"]}
    assert all(value["metadata"]["undo"]["reason"] == "false alarm" for value in found.values())
    assert all(record.partition == partition_of(record.key, PARTITIONS) for record in records)
    assert "5  not undone: a later command touched them" in again.stdout
    assert len(topics.sent()) == 2


def test_an_undo_that_finds_nothing_and_one_that_asks_for_nothing_say_so(topics: Topics) -> None:
    topics.outcome("g1", "a", result=ResultStatus.DUPLICATE)

    nothing = topics.ask("undo", "--issuer", "mad")
    all_of_it = topics.ask("undo")

    assert (nothing.returncode, nothing.stdout) == (3, "")
    assert "nothing of issuer mad was applied in that time" in nothing.stderr
    assert all_of_it.returncode == 2
    assert "give one of --issuer" in all_of_it.stderr


def test_an_undo_as_json_is_one_document(topics: Topics) -> None:
    topics.outcome("g1", "a")

    shown = topics.ask("undo", "--target", "g1", "--json")

    said = json.loads(shown.stdout)
    assert (shown.returncode, said["applied"], said["undone"], said["left_out"]) == (0, 1, 1, {})
    assert said["commands"][0]["user_ids"] == ["a"]


def test_letters_are_counted_shown_and_sent_again_as_they_came(topics: Topics) -> None:
    values = [topics.letter("g1", f"u{number}") for number in range(5)]
    late = topics.letter("g2", "late")
    topics.outcome("g2", "late", issuer="desk")

    counted = topics.ask("dead-letters", "list", "--by", "code", "--json")
    listed = topics.ask("dead-letters", "list", "--issuer", "detector", "--user", "u3")
    command_id = json.loads(values[3])["command_id"]
    whole = topics.ask("dead-letters", "show", command_id)
    shown = topics.ask("dead-letters", "replay", "--code", "10010")
    before = topics.sent()
    done = topics.ask("dead-letters", "replay", "--code", "10010", "--send")

    assert json.loads(counted.stdout)["rows"] == [{"code": "10010", "count": 6, "status": {"failed": 6}}]
    assert listed.stdout.count("no such group") == 1
    assert '"u3"' in whole.stdout
    assert "header      x-source-offset: 3" in whole.stdout
    assert (shown.returncode, before) == (7, [])
    assert "        5  would be sent again, in the order in which they came" in shown.stdout
    assert "        1  not sent: a later command for the same user came since" in shown.stdout
    assert done.returncode == 7, done.stderr
    assert "        5  being sent again, in the order in which they came" in done.stdout
    records = topics.sent()
    assert [record.value for record in records] == values
    assert {(record.key, record.partition) for record in records} == {
        (b"g1", partition_of(b"g1", PARTITIONS))
    }
    assert {tuple(record.headers) for record in records} == {(("traceparent", b"t"),)}
    forced = topics.ask("dead-letters", "replay", "--send", "--allow-overtaking")
    assert f"1 of 1 commands are in {topics.commands}" in forced.stdout, "the others wait already"
    assert topics.sent()[-1].value == late or late in [record.value for record in topics.sent()]


def test_of_ids_the_ones_without_a_letter_are_told(topics: Topics) -> None:
    """Whoever names ten must not believe that ten are sent."""
    value = topics.letter("g1", "u1")
    command_id = json.loads(value)["command_id"]

    shown = topics.ask("dead-letters", "replay", "--id", command_id, "--id", "typo-1")
    as_json = topics.ask("dead-letters", "replay", "--id", command_id, "--id", "typo-1", "--json")
    other = topics.ask("dead-letters", "replay", "--id", command_id, "--json")

    assert shown.returncode == as_json.returncode == 7
    assert "        1  would be sent again" in shown.stdout
    assert (
        "        1  --id without a letter in that time, or with other traits:\n           typo-1\n"
        in shown.stdout
    )
    said = json.loads(as_json.stdout)
    assert (said["replayed"], said["not_found"]) == (1, ["typo-1"])
    assert (other.returncode, json.loads(other.stdout)["not_found"]) == (0, [])


def test_a_record_that_is_no_letter_of_ours_is_refused_and_the_others_go(topics: Topics) -> None:
    topics.producer.send(topics.letters, b"hello", b"g1").get(30)
    topics.producer.send(topics.letters, b"\xff", b"g1", [("x-error-code", b"1")]).get(30)
    topics.letter("g1", "a")

    shown = topics.ask("dead-letters", "replay")
    listed = topics.ask("dead-letters", "list")

    assert shown.returncode == 7
    assert "        2  not sent: it is no dead letter of this worker" in shown.stdout
    assert "it has no header x-error-message" in shown.stdout
    assert "        1  would be sent again" in shown.stdout
    assert "it has no header x-error-code" in listed.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("show", "nobody"), 3, "no dead letter nobody since 7d: give the command_id or outcome_id"),
        (("list", "--issuer", "nobody"), 3, "no dead letter of issuer nobody in that time"),
        (("replay", "--id", "nobody"), 3, "no dead letter nobody"),
        (("replay", "--since", "yesterday"), 2, "give 90s, 30m, 24h or 7d"),
        (("list", "--by", "codes"), 2, "did you mean code?"),
        (("list", "--status", "faild"), 2, "did you mean failed?"),
        (("replay", "--id", ""), 2, "--id: it is empty"),
        (("show", ""), 2, "it is empty"),
    ],
)
def test_what_matches_nothing_or_cannot_be_read_is_a_sentence(
    topics: Topics, arguments: tuple[str, ...], code: int, says: str
) -> None:
    asked = topics.ask("dead-letters", *arguments)

    assert (asked.returncode, asked.stdout) == (code, "")
    assert says in " ".join(asked.stderr.replace("│", " ").split())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--issuer-as", ""), "--issuer-as: it is empty"),
        (("--issuer-as", "a\udcff"), "--issuer-as: this is not UTF-8 text"),
        (("--reason", "\udcff"), "--reason: this is not UTF-8 text"),
        (("--issuer-as", "a\u202e"), "invisible character"),
        (("--reason", "x" * 100_000), "metadata"),
    ],
    ids=["empty", "issuer of other bytes", "reason of other bytes", "invisible", "too long"],
)
def test_what_an_undo_cannot_say_is_refused_before_kafka_is_asked(
    tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    (tmp_path / "worker.yaml").write_text(
        "kafka: {bootstrap_servers: ['127.0.0.1:1']}\n"
        "tencent: {apps: {main: {sdk_app_id: 1, identifier: a, secret_key: key, region: seoul}}}\n"
    )

    asked = worker("undo", "--issuer", "x", *arguments, "--config", str(tmp_path / "worker.yaml"), environ={})

    assert (asked.returncode, asked.stdout) == (2, "")
    assert says in " ".join(asked.stderr.split())


def test_an_undo_of_hundreds_of_named_users_is_not_refused_for_their_names(tmp_path: Path) -> None:
    """Each command notes whom the undo was asked for, and metadata has 4 KiB: --reason was blamed, which nobody had given."""
    (tmp_path / "worker.yaml").write_text(
        "kafka: {bootstrap_servers: ['127.0.0.1:1']}\n"
        "tencent: {apps: {main: {sdk_app_id: 1, identifier: a, secret_key: key, region: seoul}}}\n"
    )
    users = [part for number in range(1_000) for part in ("--user", f"🙂user-with-a-long-id-{number:06d}")]

    asked = worker(
        "undo", *users, "--reason", "x" * 1_500, "--config", str(tmp_path / "worker.yaml"), environ={}
    )

    assert asked.returncode == 1, asked.stderr
    assert "Kafka cannot be reached" in asked.stderr


def test_topics_that_are_not_there_are_named(config: Path) -> None:
    for arguments in (("undo", "--issuer", "x"), ("dead-letters", "list"), ("dead-letters", "replay")):
        asked = worker(*arguments, "--config", str(config), environ={})

        assert asked.returncode == 1
        assert "there is no topic" in asked.stderr
        assert "Traceback" not in asked.stderr
