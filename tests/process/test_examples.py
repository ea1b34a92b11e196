# The examples for other programs, run as they are: what they send is a command in the right place, and what they read is
# committed.
#
# Java's client is that of the embedded Kafka's jars. Where a language or its client is not here, its test is skipped.

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from tests.docs.markdown import ROOT
from worker.domain.contract.command_decoding import Command, CommandDecoder
from worker.domain.contract.outcomes import Worker
from worker.domain.contract.placement_check import partition_of
from worker.domain.engine_settings import EngineSettings
from worker.testing.kafka.child_process import ChildProcess
from worker.testing.kafka.jars import cache_folder, fetch, locked_jars

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Cluster

pytestmark = pytest.mark.kafka

EXAMPLES: Final = ROOT / "config" / "examples"
PATIENCE: Final = 240.0
"""Go compiles its client the first time; everything else takes seconds."""
PARTITIONS: Final = 6
DECODER: Final = CommandDecoder(
    EngineSettings("commands", PARTITIONS, {"main": "admin"}, "main", Worker("w", "0"))
)

LANGUAGES: Final = {
    "python": (["python/send_command.py"], ["python/read_outcomes.py"]),
    "java": (["java/SendCommand.java"], ["java/ReadOutcomes.java"]),
    "go": (["./send"], ["./read"]),
    "kcat": (["kcat/send_command.sh"], ["kcat/read_outcomes.sh"]),
}
"""What sends and what reads; how it is run is decided by ``command``."""


def command(language: str, script: list[str], folder: Path) -> list[str]:
    """How an example is run. A Go program is built first, so that ending it ends the program itself."""
    if language == "python":
        return [sys.executable, str(EXAMPLES / script[0])]
    if shutil.which(language) is None:
        pytest.skip(f"{language} is not installed here")
    if language == "java":
        jars = ":".join(str(path) for path in fetch(locked_jars(), cache_folder(), None))
        return ["java", "-cp", jars, str(EXAMPLES / script[0])]
    if language == "go":
        program = folder / script[0].removeprefix("./")
        built = subprocess.run(
            ["go", "build", "-o", str(program), script[0]], cwd=EXAMPLES / "go", env={**os.environ, "GOFLAGS": "-mod=readonly"},
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        if built.returncode and "CI" not in os.environ and "dial tcp" in built.stderr:
            pytest.skip("the Go module proxy cannot be reached")
        assert built.returncode == 0, built.stderr
        return [str(program)]
    return [str(EXAMPLES / script[0])]


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_example_sends_a_valid_command_to_where_its_target_belongs(
    language: str, kafka: Cluster, make_topic: Callable[..., str], tmp_path: Path
) -> None:
    topic = make_topic("commands", partitions=PARTITIONS)
    line = command(language, LANGUAGES[language][0], tmp_path)

    done = subprocess.run(
        line, env={**os.environ, "KAFKA": kafka.bootstrap_servers, "TOPIC": topic},
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    place = TopicPartition(topic, partition_of(b"group-42", PARTITIONS))
    reader = KafkaConsumer(bootstrap_servers=kafka.bootstrap_servers, auto_offset_reset="earliest")
    reader.assign([place])
    assert reader.end_offsets([place])[place] == 1
    (record,) = reader.poll(timeout_ms=30_000)[place]
    reader.close(autocommit=False)
    read = DECODER.decode(record)
    assert isinstance(read, Command), read
    assert (record.key, read.target, read.issuer) == (b"group-42", "group-42", f"example-{language}")


@pytest.fixture
def outcomes(kafka: Cluster, make_topic: Callable[..., str]) -> str:
    """A topic with an outcome of a transaction that was aborted, one of a rejected command, which has no results, and one that is done."""
    topic = make_topic("outcomes", partitions=1)
    producer: Any = KafkaProducer(
        bootstrap_servers=kafka.bootstrap_servers, transactional_id=f"{topic}-examples"
    )
    producer.init_transactions()
    results = {"results": [{"user_id": "u", "status": "applied"}]}
    for command_id, status, more, end in (
        ("aborted-1", "succeeded", results, producer.abort_transaction),
        ("rejected-2", "rejected", {}, producer.commit_transaction),
        ("done-3", "succeeded", results, producer.commit_transaction),
    ):
        producer.begin_transaction()
        value = {"command_id": command_id, "status": status, **more}
        headers = [("command_id", command_id.encode()), ("status", status.encode())]
        producer.send(topic, value=json.dumps(value).encode(), key=b"group-42", headers=headers)
        producer.flush()
        end()
    producer.close(timeout=5)
    return topic


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_example_reads_what_is_committed_whatever_became_of_it_and_nothing_else(
    language: str, kafka: Cluster, outcomes: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    environment = {"KAFKA": kafka.bootstrap_servers, "TOPIC": outcomes, "GROUP": f"{outcomes}-readers"}
    reader = ChildProcess(
        language, command(language, LANGUAGES[language][1], tmp_path), log, environment=environment
    )
    reader.start()
    try:
        reader.wait_until(lambda: "done-3" in log.read_text(), PATIENCE, "reading")
    finally:
        reader.stop()

    assert "rejected-2" in log.read_text()
    assert "succeeded" in log.read_text()
    assert "aborted-1" not in log.read_text()
