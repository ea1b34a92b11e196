# config/kafka.md: each example is a settings file that the worker accepts, once the files that it names exist.

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from tests.certificate import self_signed
from tests.docs.markdown import ROOT, text
from tests.unit.settings.environment import load, minimal
from worker.runtime.options_from_settings import kafka_options

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PAGE: Final = "config/kafka.md"
EXAMPLES: Final = dict(
    re.findall(r"^## ([^\n]*)\n(?:(?!^## ).)*?```yaml\n(.*?)```", text(PAGE), re.MULTILINE | re.DOTALL)
)


@pytest.fixture
def files(tmp_path: Path) -> Callable[[str], str]:
    """Files of a machine where all that the page names exists."""
    certificate, key = self_signed()
    content = {"crt": certificate, "key": key}

    def written(path: str) -> str:
        made = tmp_path / path.replace("/", "_")
        made.write_text(content.get(path.rpartition(".")[2], "user:password"))
        return str(made)

    return written


@pytest.mark.parametrize("title", EXAMPLES)
def test_each_example_is_accepted(title: str, files: Callable[[str], str]) -> None:
    example = re.sub(r"/etc/[\w./-]+", lambda found: files(found[0]), EXAMPLES[title])
    data: dict[str, Any] = yaml.safe_load(example)

    settings = load(minimal(**data))

    assert (kafka_options(settings, "name").tokens is not None) == (
        "oauth" in example or "aws_msk_iam" in example
    )


def test_every_way_in_has_an_example() -> None:
    assert len(EXAMPLES) == 7
    for word in ("SCRAM-SHA-512", "ssl_keyfile", "Keycloak", "Confluent", "Event Hubs", "MSK", "http.proxy"):
        assert word in text(PAGE)


def test_the_versions_are_those_of_the_matrix() -> None:
    locks = [
        *(ROOT / "tests" / "kafka_versions").glob("*.lock"),
        ROOT / "worker/testing/kafka/kafka-jars.lock",
    ]
    versions = {re.search(r"kafka_2.13:(\d+\.\d+)", lock.read_text())[1] for lock in locks}  # type: ignore[index]

    (said,) = re.findall(r"tested with Apache Kafka ([\d., and]+)\d* \(", text(PAGE))
    assert set(re.findall(r"\d+\.\d+", said)) == versions
