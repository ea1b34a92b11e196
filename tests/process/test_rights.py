# On a cluster that asks for a password and allows nothing by itself, the rights that config/running.md lists are enough.

from __future__ import annotations

import re
from contextlib import closing
from typing import TYPE_CHECKING, Final

import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourceType,
)

from tests.docs.markdown import rows, text
from tests.process.environment import Environment, command
from tests.process.test_readme import worker
from worker.testing.demo.environment import DemoEnvironment
from worker.testing.kafka import embedded_kafka as broker
from worker.testing.kafka.embedded_kafka import EmbeddedKafka, free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.kafka

USER: Final = "moderation-worker"
PASSWORD: Final = "correct horse battery staple"
LOCKED: Final = """
listeners=PLAINTEXT://127.0.0.1:{{broker}},SASL_PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{{controller}}
advertised.listeners=PLAINTEXT://127.0.0.1:{{broker}},SASL_PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{{controller}}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT
sasl.enabled.mechanisms=PLAIN
listener.name.sasl_plaintext.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_{user}="{password}";
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
"""
"""Whoever comes by the other listener, without a name, may do everything: the test itself."""


@pytest.fixture
def locked(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, str]]:
    """A broker of its own: the address for everybody, and the one that asks for a password."""
    (port,) = free_ports(1)
    more = LOCKED.format(port=port, user=USER, password=PASSWORD)
    kept = [line for line in broker.PROPERTIES.splitlines() if not re.match(r"(advertised\.)?listener", line)]
    named = re.findall(r"^controller\.listener\.names=.*$", broker.PROPERTIES, re.MULTILINE)
    monkeypatch.setattr(broker, "PROPERTIES", "\n".join([*kept, *(set(named) - set(kept))]) + more)
    with EmbeddedKafka() as kafka:
        yield kafka.bootstrap_servers, f"127.0.0.1:{port}"


def rights(stage: DemoEnvironment, group: str) -> list[ACL]:
    """The page's table, for one stage."""
    topics = stage.topics
    resources = {
        "the command topic": (ResourceType.TOPIC, topics.commands, ACLResourcePatternType.LITERAL),
        "the outcome topic": (ResourceType.TOPIC, topics.outcomes, ACLResourcePatternType.LITERAL),
        "the dead-letter topic": (ResourceType.TOPIC, topics.dead_letters, ACLResourcePatternType.LITERAL),
        "the control topic": (ResourceType.TOPIC, topics.control, ACLResourcePatternType.LITERAL),
        "the quota topic": (ResourceType.TOPIC, topics.quota, ACLResourcePatternType.LITERAL),
        "the group": (ResourceType.GROUP, group, ACLResourcePatternType.LITERAL),
        "transactional ids": (ResourceType.TRANSACTIONAL_ID, group, ACLResourcePatternType.PREFIXED),
    }
    made = []
    for on, may in rows("config/running.md", "## What its Kafka user may do"):
        (kind, name, pattern) = next(value for start, value in resources.items() if on.startswith(start))
        for operation in may.split(", "):
            word = re.sub(r"(?<!^)([A-Z])", r"_\1", operation).upper()
            made.append(
                ACL(
                    f"User:{USER}", "*", ACLOperation[word], ACLPermissionType.ALLOW, ResourcePattern(kind, name, pattern)
                )
            )  # fmt: skip
    return made


def more_rights(stage: DemoEnvironment) -> list[ACL]:
    """What the page asks for below its table, for those commands that send again or read dead letters."""
    (sentence,) = re.findall(r"^Who runs `send`,.*$", text("config/running.md"), re.MULTILINE)
    topics = {"the command topic": stage.topics.commands, "its topic": stage.topics.dead_letters}
    return [
        ACL(
            f"User:{USER}", "*", ACLOperation[operation.upper()], ACLPermissionType.ALLOW,
            ResourcePattern(ResourceType.TOPIC, topics[on], ACLResourcePatternType.LITERAL),
        )
        for operation, on in re.findall(r"needs (\w+) on ([a-z ]+topic)", sentence)
    ]  # fmt: skip


def test_the_rights_of_the_table_are_enough_for_check_run_and_outcomes(
    locked: tuple[str, str], tmp_path: Path
) -> None:
    open_to_all, guarded = locked
    password = tmp_path / "password"
    password.write_text(PASSWORD)
    with DemoEnvironment(open_to_all) as stage:
        stage.start_kafka()
        stage.start_simulator()
        group = stage.topics.commands.removesuffix(".commands")
        admin = KafkaAdminClient(bootstrap_servers=open_to_all)
        admin.create_acls(rights(stage, group))
        admin.close()

        replica = stage.start_worker({"kafka": guarded_settings(guarded, password)})
        stage.wait_until_ready(replica)
        producer = KafkaProducer(bootstrap_servers=open_to_all)
        ban = b'{"command_id":"ban","action":"group.ban_group_member","group_id":"g","user_ids":["u"],"duration":60}'
        for value in (ban, b"{"):
            producer.send(stage.topics.commands, key=b"g", value=value).get(30)
        producer.close(timeout=5)
        config = str(stage.folder / "worker-1.yaml")
        checked = worker("check", "--config", config)
        replica.wait_until(
            lambda: "succeeded" in worker("outcomes", "--config", config, "--user", "u").stdout, 60, "done"
        )
        paused = worker("pause", "--config", config, "--issuer", "detector-7", "--reason", "mad")
        listed = worker("control", "--config", config)
        shown = worker("undo", "--config", config, "--target", "g")
        undone = worker("undo", "--config", config, "--target", "g", "--send")
        letters = worker("dead-letters", "list", "--config", config)
        with closing(KafkaAdminClient(bootstrap_servers=open_to_all)) as admin:
            admin.create_acls(more_rights(stage))
        allowed = [
            worker(*words, "--config", config)
            for words in (
                ("send", "--action", "group.unban_group_member", "--group-id", "h", "--user", "v", "--wait"),
                ("undo", "--target", "g", "--send"),
                ("dead-letters", "list"),
                ("dead-letters", "replay", "--code", "not_json", "--rejected", "--send"),
            )
        ]
        ((_, code),) = stage.stop_workers()

    assert shown.returncode == 0, "a dry run needs no right to write"
    assert (undone.returncode, letters.returncode) == (1, 1), (
        "the worker may not write commands, or read letters"
    )
    assert f"the broker refuses this user the topic {stage.topics.commands}: grant it" in undone.stderr
    assert "the Kafka user may not do this with the topic" in letters.stderr
    assert "Traceback" not in undone.stderr + letters.stderr

    assert [each.returncode for each in allowed] == [0, 0, 0, 0], allowed

    assert paused.returncode == listed.returncode == 0, paused.stderr + listed.stderr
    assert "paused    issuer detector-7" in listed.stdout
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert checked.stdout.count("cleanup delete") == 4
    assert code == 0
    assert PASSWORD not in checked.stdout + checked.stderr + replica.tail()


def guarded_settings(guarded: str, password: Path) -> dict[str, object]:
    return {
        "bootstrap_servers": guarded,
        "common": {
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "PLAIN",
            "sasl_plain_username": USER,
            "sasl_plain_password_file": str(password),
        },
    }


def test_who_may_not_read_the_control_topic_makes_no_call_and_says_why(
    locked: tuple[str, str], tmp_path: Path
) -> None:
    """It cannot know whether somebody has paused what it would send. Once the right is granted, it goes on by itself."""
    open_to_all, guarded = locked
    password = tmp_path / "password"
    password.write_text(PASSWORD)
    with Environment(open_to_all) as run:
        group = run.stage.topics.commands.removesuffix(".commands")
        every = rights(run.stage, group)
        of_control = [acl for acl in every if acl.resource_pattern.resource_name == run.stage.topics.control]
        with run.admin() as admin:
            admin.create_acls([acl for acl in every if acl not in of_control])
        run.stage.start_worker({"kafka": guarded_settings(guarded, password)})
        config = str(run.stage.folder / "worker-1.yaml")
        load = run.send([command("group.ban_group_member", "g", "u", "ban", duration=60)])

        def refused() -> bool:
            return any(run.stage.topics.control in each["reason"] for each in run.obstacles_if_listening())

        run.play_until(refused, 60.0, "an obstacle for the refused control topic")
        checked = worker("check", "--config", config)
        refusals = [
            worker(*words, "--config", config)
            for words in (("pause", "--everything", "--reason", "r"), ("control",))
        ]
        calls_before = run.requests()
        with run.admin() as admin:
            admin.create_acls(of_control)
        run.play_to_the_end()
        outcomes = [each.body.status for each in run.outcomes_of(load)]

    assert calls_before == []
    assert checked.returncode == 2
    assert "allow it Describe and Read, or set kafka.control_topic to null" in checked.stdout
    for each in refusals:
        assert (each.returncode, each.stdout, each.stderr.count("\n")) == (1, "", 1)
        assert "config/running.md" in each.stderr
    assert outcomes == ["succeeded"]


COMMANDS: Final = (("check",), ("outcomes", "--user", "u"), ("topics", "create"), ("run",))


def refusals(config: Path, more: str) -> dict[str, str]:
    """What each command says with these settings of Kafka, each of which must fail: its last line."""
    config.write_text(
        f"kafka: {{group_id: g, command_topics: [c], outcome_topic: o, dead_letter_topic: d, control_topic: k, {more}}}\n"
        "server: {port: 0}\n"
        "tencent: {apps: {main: {sdk_app_id: 1, identifier: a, secret_key: key, region: seoul}}}\n"
    )
    said_by = {}
    for arguments in COMMANDS:
        done = worker(*arguments, "--config", str(config))
        said = done.stdout + done.stderr
        assert done.returncode == 1, said
        assert "Traceback" not in said
        assert PASSWORD not in said
        said_by[arguments[0]] = " ".join(said.splitlines()[-1].split())
    return said_by


def test_each_command_tells_a_kafka_that_refuses_it_in_one_sentence(
    locked: tuple[str, str], tmp_path: Path
) -> None:
    """With topics made, and no right to look at them; with a wrong password; with nobody there."""
    open_to_all, guarded = locked
    admin = KafkaAdminClient(bootstrap_servers=open_to_all)
    admin.create_topics({name: {"num_partitions": 1, "replication_factor": 1} for name in ("c", "o", "d")})
    admin.close()
    sign_in = (
        "security_protocol: SASL_PLAINTEXT, sasl_mechanism: PLAIN, sasl_plain_username: moderation-worker"
    )
    config = tmp_path / "worker.yaml"

    rightless = refusals(
        config,
        f"bootstrap_servers: ['{guarded}'], common: {{{sign_in}, sasl_plain_password: '{PASSWORD}'}}",
    )
    strangers = refusals(
        config, f"bootstrap_servers: ['{guarded}'], common: {{{sign_in}, sasl_plain_password: wrong, bootstrap_timeout_ms: 2000}}"
    )  # fmt: skip
    nobody = refusals(config, "bootstrap_servers: ['127.0.0.1:1'], common: {bootstrap_timeout_ms: 1000}")

    for lines in (rightless, strangers, nobody):
        assert all(len(line) < 400 for line in lines.values()), lines
    assert all("may not" in line for line in rightless.values()), rightless
    assert all(f"Kafka cannot be reached at {guarded}: " in line for line in strangers.values()), strangers
    assert all("Kafka cannot be reached at 127.0.0.1:1: " in line for line in nobody.values()), nobody


def test_who_may_see_but_not_create_topics_reads_which_right_is_missing(
    locked: tuple[str, str], tmp_path: Path
) -> None:
    open_to_all, guarded = locked
    admin = KafkaAdminClient(bootstrap_servers=open_to_all)
    everywhere = ResourcePattern(ResourceType.TOPIC, "*", ACLResourcePatternType.LITERAL)
    admin.create_acls([ACL(f"User:{USER}", "*", ACLOperation.DESCRIBE, ACLPermissionType.ALLOW, everywhere)])
    admin.close()
    config = tmp_path / "worker.yaml"
    config.write_text(
        "kafka: {group_id: g, command_topics: [c], outcome_topic: o, dead_letter_topic: d, control_topic: k, quota_topic: q, "
        f"bootstrap_servers: ['{guarded}'], common: {{security_protocol: SASL_PLAINTEXT, sasl_mechanism: PLAIN, "
        f"sasl_plain_username: {USER}, sasl_plain_password: '{PASSWORD}'}}}}\n"
        "tencent: {apps: {main: {sdk_app_id: 1, identifier: a, secret_key: key, region: seoul}}}\n"
    )

    refused = worker("topics", "create", "--config", str(config))

    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.count("\n") == 1
    names, _, why = refused.stderr.partition("cannot be created: ")[2].partition(": ")
    assert sorted(names.split(", ")) == ["c", "d", "k", "o", "q"]
    assert why.startswith("the Kafka user may not create it: grant Create on the topic")
