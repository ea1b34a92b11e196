# What a real Kafka refuses until somebody acts: each kind is reported as what it is, is an obstacle, and ends by itself.

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import pytest
from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ConfigResource,
    ConfigResourceType,
    ResourcePattern,
    ResourceType,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from tests.contract.broker.kafka_fixture import (
    Member,
    RealCluster,
    outcome_for,
    record,
    transaction_of,
    until,
)
from worker.broker import active_kafka_refusals, record_appending
from worker.domain.contract.dead_letter_encoding import DeadLetter
from worker.domain.effects import OffsetCommit
from worker.domain.publish_results import Aborted, Published
from worker.errors import BrokerError
from worker.testing.kafka.embedded_kafka import EmbeddedKafka, free_ports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.contract.broker.conftest import Join
    from worker.domain.publish_results import PublishResult

pytestmark = pytest.mark.kafka

USER: Final = "mod"
NOWHERE: Final = "broker-3.invalid"
MAPS: Final = "PLAINTEXT:PLAINTEXT,GUARDED:SASL_PLAINTEXT,LOST:PLAINTEXT,CONTROLLER:PLAINTEXT"


class Guarded(RealCluster):
    """
    A broker of its own, with a listener for everybody, one that asks for a password, and one that is advertised wrongly.

    Attributes:
        guarded: The address that asks for a password.
        lost: The address whose brokers advertise a name that cannot be resolved.

    """

    def __init__(self, kafka: EmbeddedKafka, guarded: int, lost: int) -> None:
        super().__init__(kafka.bootstrap_servers)
        self.kafka = kafka
        self.guarded, self.lost = f"127.0.0.1:{guarded}", f"127.0.0.1:{lost}"
        self.rights = {
            stem: self._right(ResourceType.TOPIC, f"{stem}{self.tag}")
            for stem in ("commands", "outcomes", "dead-letters")
        }
        self.rights["group"] = self._right(ResourceType.GROUP, f"workers{self.tag}")
        prefixed = ACLResourcePatternType.PREFIXED
        self.rights["transactional_id"] = self._right(
            ResourceType.TRANSACTIONAL_ID, f"workers{self.tag}", prefixed
        )
        for right in self.rights:
            self.grant(right)

    def _right(
        self, kind: ResourceType, name: str, pattern: ACLResourcePatternType = ACLResourcePatternType.LITERAL
    ) -> ACL:
        resource = ResourcePattern(kind, name, pattern)
        return ACL(f"User:{USER}", "*", ACLOperation.ALL, ACLPermissionType.ALLOW, resource)

    def revoke(self, right: str) -> None:
        self.admin.delete_acls([self._filter(right)])
        until(lambda: not self._granted(right), "the right's end")

    def grant(self, right: str) -> None:
        self.admin.create_acls([self.rights[right]])
        until(lambda: bool(self._granted(right)), "the right")

    def _filter(self, right: str) -> ACLFilter:
        acl = self.rights[right]
        return ACLFilter(acl.principal, "*", ACLOperation.ANY, ACLPermissionType.ANY, acl.resource_pattern)

    def _granted(self, right: str) -> list[ACL]:
        granted: list[ACL] = self.admin.describe_acls(self._filter(right))[0]
        return granted

    def configure(self, stem: str, **settings: str) -> None:
        values = {name.replace("_", "."): value for name, value in settings.items()}
        self.admin.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, f"{stem}{self.tag}", configs=values)]
        )

    def password(self, text: str) -> None:
        self.admin.alter_user_scram_credentials(
            [UserScramCredentialUpsertion(USER, ScramMechanism.SCRAM_SHA_256, text)]
        )


@pytest.fixture(scope="module")
def broker() -> Iterator[tuple[EmbeddedKafka, int, int]]:
    guarded, lost = free_ports(2)
    listeners = f"PLAINTEXT://127.0.0.1:{{broker}},GUARDED://127.0.0.1:{guarded},LOST://{{lost}},CONTROLLER://127.0.0.1:{{controller}}"
    properties = {
        "listeners": listeners.replace("{lost}", f"127.0.0.1:{lost}"),
        "advertised.listeners": listeners.replace("{lost}", f"{NOWHERE}:{lost}"),
        "listener.security.protocol.map": MAPS,
        "inter.broker.listener.name": "PLAINTEXT",
        "sasl.enabled.mechanisms": "SCRAM-SHA-256",
        "listener.name.guarded.scram-sha-256.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        ),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
    with EmbeddedKafka(properties=properties) as kafka:
        yield kafka, guarded, lost


@pytest.fixture
def cluster(broker: tuple[EmbeddedKafka, int, int]) -> Iterator[Guarded]:
    made = Guarded(*broker)
    made.password("first")
    yield made
    made.close()


def signed_in(cluster: Guarded, file: Path) -> dict[str, Any]:
    """The options of a member that takes its password from the file."""
    return {
        "bootstrap_servers": cluster.guarded,
        "common": {
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "SCRAM-SHA-256",
            "sasl_plain_username": USER,
            "sasl_plain_password": file.read_text(),
        },
        "file_secrets": lambda part: {"sasl_plain_password": file.read_text()} if part == "common" else {},
        "sign_in_remedy": f"put the right password into {file}",
    }


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "password"
    made.write_text("first")
    return made


def publish(member: Member, offset: int, *, letter: bool = True) -> PublishResult:
    letters = [DeadLetter(record(1, offset, b"{"), "commands", f"commands-1-{offset}", "not_json", "no")]
    outcomes = [outcome_for(1, offset)]
    return member.publish(
        transaction_of(outcomes, {1: OffsetCommit(offset + 1, "")}, letters if letter else [])
    )


def publish_until(
    member: Member, ends: Callable[[PublishResult], bool], *, letter: bool = True
) -> PublishResult:
    """The same transaction again, until it ends so."""
    results: list[PublishResult] = []

    def ended() -> bool:
        results.append(publish(member, 1, letter=letter))
        return ends(results[-1])

    until(ended, "the end that is wanted")
    return results[-1]


def lasting(member: Member) -> dict[str, Any]:
    """The obstacles of a member's publisher and consumer, by kind."""
    refusals = [*member.publisher._refusals.lasting, *member.consumer._refusals.lasting]
    return {each.kind: each for each in refusals}


@pytest.mark.parametrize(
    ("right", "kind"),
    [
        ("outcomes", "topic_denied"),
        ("dead-letters", "topic_denied"),
        ("commands", "topic_denied"),
        ("group", "group_denied"),
        ("transactional_id", "transactional_id_denied"),
    ],
)
def test_a_right_that_is_revoked_is_an_obstacle_until_it_is_granted(
    cluster: Guarded, join: Join, file: Path, right: str, kind: str
) -> None:
    """Calls would go on and nobody would hear of it, with a worker that says that it is ready."""
    member = join(cluster, **signed_in(cluster, file))
    publish_until(member, lambda result: isinstance(result, Published))
    cluster.revoke(right)

    refused = publish_until(member, lambda result: isinstance(result, Aborted) and kind in lasting(member))
    obstacle = lasting(member)[kind]
    cluster.grant(right)
    publish_until(member, lambda result: isinstance(result, Published))

    assert isinstance(refused, Aborted)
    assert refused.dead_letters_refused is (right == "dead-letters")
    assert member.failure is None
    assert obstacle.remedy
    if kind == "topic_denied":
        assert obstacle.topic == f"{right}{cluster.tag}"
    until(lambda: not lasting(member), "no obstacle")


@pytest.mark.parametrize(
    ("stem", "partitions", "kind"),
    [
        ("outcomes", 0, "topic_missing"),
        ("dead-letters", 0, "topic_missing"),
        ("outcomes", 1, "partition_missing"),
    ],
    ids=["outcomes deleted", "dead letters deleted", "outcomes recreated with one partition"],
)
def test_a_topic_that_went_is_an_obstacle_until_it_is_back(
    cluster: Guarded, join: Join, monkeypatch: pytest.MonkeyPatch, stem: str, partitions: int, kind: str
) -> None:
    monkeypatch.setattr(active_kafka_refusals, "SECONDS", 0.0)
    member = join(cluster)
    publish_until(member, lambda result: isinstance(result, Published))
    topic = f"{stem}{cluster.tag}"
    cluster.admin.delete_topics([topic])
    until(lambda: topic not in cluster.admin.list_topics(), "the topic's end")
    if partitions:
        cluster.admin.create_topics({topic: {"num_partitions": partitions, "replication_factor": 1}})

    refused = publish_until(member, lambda result: isinstance(result, Aborted) and kind in lasting(member))
    obstacle = lasting(member)[kind]
    without = publish(member, 2, letter=False)
    still = {each.kind for each in member.publisher._refusals.lasting}
    if partitions:
        cluster.admin.create_partitions({topic: 2})
    else:
        cluster.admin.create_topics({topic: {"num_partitions": 2, "replication_factor": 1}})
    publish_until(member, lambda result: isinstance(result, Published))

    assert isinstance(refused, Aborted)
    assert obstacle.topic == topic
    assert refused.dead_letters_refused is (stem == "dead-letters")
    assert isinstance(without, Published if stem == "dead-letters" else Aborted)
    assert kind in still, "what goes without dead letters says nothing of their topic"
    until(lambda: not lasting(member), "no obstacle")


def test_a_broker_that_refuses_our_time_is_reported_as_that(
    cluster: Guarded, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The producer's clock is a minute late. A limit that its own clock could miss would let the broker refuse the end of a
    transaction, too, which it never tries again.
    """
    late = SimpleNamespace(time=lambda: time.time() - 60.0, monotonic=time.monotonic)
    monkeypatch.setattr(record_appending, "time", late)
    member = join(cluster)
    cluster.configure("outcomes", message_timestamp_before_max_ms="30000")

    publish_until(member, lambda _: "timestamp_refused" in lasting(member), letter=False)
    obstacle = lasting(member)["timestamp_refused"]
    cluster.configure("outcomes", message_timestamp_before_max_ms="86400000")
    publish_until(member, lambda result: isinstance(result, Published), letter=False)

    assert obstacle.topic == f"outcomes{cluster.tag}"
    assert "clocks" in obstacle.remedy
    assert not lasting(member)


def test_a_password_that_was_changed_is_read_again_for_a_restoration(
    cluster: Guarded, join: Join, file: Path
) -> None:
    """With the password of the start, every partition that comes later would stay dead for ever."""
    member = join(cluster, **signed_in(cluster, file))
    cluster.password("second")
    file.write_text("second")

    until(lambda: restores(member), "a restoration with the new password")
    cluster.kafka.kill()
    cluster.kafka.start()

    published = publish_until(member, lambda result: isinstance(result, Published), letter=False)
    assert isinstance(published, Published)
    until(lambda: not lasting(member), "no obstacle")


def restores(member: Member) -> bool:
    try:
        member.restorer.restore(0)
    except BrokerError:
        return False
    return True


def test_a_refused_sign_in_is_the_reported_reason(cluster: Guarded, join: Join, file: Path) -> None:
    """What comes last is that a socket was disconnected."""
    member = join(cluster, **signed_in(cluster, file))
    file.write_text("wrong")

    with pytest.raises(BrokerError, match="the broker refuses the sign-in as mod"):
        member.restorer.restore(0)
    (logged,) = [each for each in member.notices if each.event == "kafka.refused"]
    file.write_text("first")

    assert (logged.fields["kind"], logged.fields["party"]) == ("sign_in", "restore 0")
    assert str(file) in str(logged.fields["remedy"])
    assert restores(member)
    assert member.notices[-2].event == "kafka.accepted" or member.notices[-1].event == "kafka.accepted"


def test_an_advertised_address_that_cannot_be_resolved_is_named(cluster: Guarded) -> None:
    """The bootstrap address answers, so all looks well; nothing that comes after it is answered."""
    member = Member(cluster, cluster.options("a", bootstrap_servers=cluster.lost))

    with pytest.raises(
        BrokerError, match=rf"{NOWHERE}:\d+, which is what the brokers advertise.*cannot be resolved"
    ):
        member.restorer.restore(0)
    with pytest.raises(BrokerError, match=NOWHERE):
        member.publisher.start(25.0)

    member.close()
    (logged,) = [
        each for each in member.notices if each.event == "kafka.refused" and each.fields["party"] == "publish"
    ]
    assert logged.fields["kind"] == "unreachable"
    assert NOWHERE in str(logged.fields["reason"])
    assert "advertised.listeners" in str(logged.fields["remedy"])
