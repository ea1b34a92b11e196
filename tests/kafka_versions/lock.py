# Writes the lock file of one version of Apache Kafka: `python -m tests.kafka_versions.lock 3.9.1 tests/kafka_versions/kafka-3.9.1.lock`.
#
# What Maven resolves is fetched once and hashed. The format is that of worker/testing/kafka/kafka-jars.lock (jars.py reads it).

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from jgo.maven import Dependency, MavenContext, PythonResolver

from worker.testing.kafka.jars import REPOSITORY_VARIABLE

GROUP: Final = "org.apache.kafka"
LOGGER: Final = ("org.slf4j", "slf4j-simple")
SCOPES: Final = ("compile", "runtime")
"""Kafka is built against slf4j's interface and brings no logger; this one writes to stderr."""


def locked(version: str, cache: Path) -> str:
    """The text of the lock file."""
    mirror = os.environ.get(REPOSITORY_VARIABLE)
    context = MavenContext(
        resolver=PythonResolver(),
        repo_cache=cache,
        local_repos=[],
        remote_repos={"mirror": mirror} if mirror else None,
    )
    kafka = context.project(GROUP, "kafka_2.13").at_version(version)
    nodes: list[Any] = context.resolver.get_dependency_list([Dependency(kafka.artifact())])[1]
    needed = [node.dep for node in nodes if node.dep.scope in SCOPES]
    components: list[Any] = [kafka, *(each.artifact.component for each in needed if each.type == "jar")]
    api = next(one for one in components if one.artifactId == "slf4j-api")
    components.append(context.project(*LOGGER).at_version(api.version))
    lines = [
        f"# The jars of Apache Kafka {version} and what it needs, in the order of the class path: sha256, bytes, group:artifact:version."
    ]
    for one in dict.fromkeys((each.groupId, each.artifactId, each.version) for each in components):
        raw = Path(context.project(*one[:2]).at_version(one[2]).artifact().resolve()).read_bytes()
        lines.append(f"{hashlib.sha256(raw).hexdigest()} {len(raw):9d} {':'.join(one)}")
    return "\n".join(lines) + "\n"


def main() -> None:
    version, target = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        Path(target).write_text(locked(version, Path(folder)), "utf-8")


if __name__ == "__main__":
    main()
