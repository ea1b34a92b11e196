# Which parts of kafka-python are used that its documentation does not promise, by name: its private attributes, the members of
# its internal classes, the globals that are replaced, the modules behind its public ones. A new one must be added here, and one
# that an upgrade renames fails here.
#
# Only names are compared. Whether each part behaves as we assume is checked by tests/contract/broker/test_kafka_private_parts.py.

from __future__ import annotations

import ast
import importlib
import inspect
import sys
import textwrap
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka.cluster import ClusterMetadata
from kafka.consumer.fetcher import Fetcher
from kafka.consumer.subscription_state import AsyncConsumerRebalanceListener
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.consumer import ConsumerCoordinator
from kafka.net.compat import KafkaNetClient
from kafka.net.connection import KafkaConnection
from kafka.net.manager import KafkaConnectionManager
from kafka.net.sasl.oauth import AbstractTokenProvider
from kafka.net.selector import NetworkSelector
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport
from kafka.producer.future import FutureProduceResult
from kafka.producer.producer_batch import ProducerBatch
from kafka.producer.record_accumulator import RecordAccumulator
from kafka.producer.sender import Sender
from kafka.producer.transaction_manager import TransactionalRequestResult, TransactionManager
from kafka.record.default_records import DefaultRecordBatch
from kafka.record.memory_records import MemoryRecordsBuilder

import worker
from worker.broker import (
    assignor,
    bounded_record_batches,
    kafka_private_parts,
    paced_coordinator,
    rebalance_listener,
    secured_connection,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCES: Final = Path(worker.__file__).parent
PRIVATE_PARTS: Final = SOURCES / "broker" / "kafka_private_parts.py"
SIGN_IN: Final = SOURCES / "broker" / "secured_connection.py"
BATCHES: Final = SOURCES / "broker" / "bounded_record_batches.py"
APPENDING: Final = SOURCES / "broker" / "record_appending.py"

PARTS: Final[dict[type, set[str]]] = {
    AbstractTokenProvider: {"extensions", "token"},
    AsyncConsumerRebalanceListener: {
        "on_partitions_assigned", "on_partitions_lost", "on_partitions_revoked",
    },
    ClusterMetadata: {"_last_successful_refresh_ms", "broker_metadata", "is_bootstrap", "partitions_for_topic", "topic_id"},
    ConsumerCoordinator: {
        "_REBALANCE_LISTENER_WARN_SECS", "_handle_heartbeat_response", "_process_join_group_response",
        "_process_sync_group_response", "rejoin_needed", "rejoining", "request_rejoin", "time_to_next_poll",
    },
    CooperativeStickyAssignor: {"assign", "generation", "metadata", "version"},
    DefaultRecordBatch: {
        "CODEC_NONE", "LOG_APPEND_TIME", "__next__", "_buffer", "_decompressed", "_maybe_uncompress", "_next_record_index",
        "_num_records", "_pos", "_read_msg", "base_offset", "compression_type", "first_timestamp", "last_offset",
        "max_timestamp", "next", "timestamp_type",
    },
    Fetcher: {"PartitionRecords", "_append", "_next_partition_records", "fetched_records"},
    Fetcher.PartitionRecords: {
        "_contains_abort_marker", "_maybe_raise_next_inline_exception", "_next_inline_exception", "drain", "record_iterator", "take",
    },
    KafkaConnection: {"_sasl_authenticate", "config", "init_future", "net"},
    KafkaConnectionManager: {
        "_auth_failures", "_conns", "cluster", "config", "connection_delay", "get_connection",
    },
    KafkaConsumer: {"_cluster", "_coordinator", "_fetcher", "_net"},
    KafkaNetClient: {"_manager", "await_ready", "close"},
    KafkaProducer: {"_accumulator", "_metadata", "_sender", "_transaction_manager", "_wait_on_metadata"},
    KafkaSSLTransport: {"_net", "_sock", "_sock_recv", "handshake", "ssl_config"},
    KafkaTCPTransport: {"_sock_recv"},
    NetworkSelector: {"call_later", "call_soon_threadsafe", "cancel", "wait_read", "wait_write"},
    FutureProduceResult: {"_latch", "is_done", "value", "wait"},
    MemoryRecordsBuilder: {"append"},
    ProducerBatch: {"_record_futures", "max_record_size", "produce_future", "records"},
    RecordAccumulator: {
        "_appends_in_progress", "_batches", "_closed", "_flushes_in_progress", "_incomplete", "_tp_lock", "begin_flush", "config",
        "flush_in_progress",
    },
    Sender: {"force_close", "join", "wakeup"},
    TransactionalRequestResult: {"wait"},
    TransactionManager: {
        "_pending_txn_offset_commits", "begin_abort", "begin_commit", "has_fatal_error", "last_error",
        "maybe_add_partition_to_transaction",
        "send_offsets_to_transaction",
    },
}  # fmt: skip
"""What is used of each class; of the public ones only what is private."""
PUBLIC: Final = {KafkaConsumer, KafkaProducer}
ADDED: Final = {"failed_connections", "fresh_secrets", "unread_secret", "watched_connector"}
"""The attributes that we add to its objects."""
REPLACED: Final = {
    ("kafka.consumer.group", "ConsumerCoordinator"),
    ("kafka.consumer.group", "Fetcher"),
    ("kafka.net.manager", "KafkaConnection"),
    ("kafka.net.manager", "KafkaSSLTransport"),
    ("kafka.net.manager", "KafkaTCPTransport"),
    ("kafka.net.manager", "create_connection"),
    ("kafka.record.legacy_records", "gzip_decode"),
    ("kafka.record.legacy_records", "lz4_decode"),
    ("kafka.record.legacy_records", "snappy_decode"),
    ("kafka.record.memory_records", "DefaultRecordBatch"),
}
"""Globals of its modules that ``install_replacements`` replaces."""
MODULES: Final = {
    "kafka.consumer",
    "kafka.consumer.fetcher",
    "kafka.consumer.subscription_state",
    "kafka.coordinator.assignors.cooperative_sticky",
    "kafka.coordinator.consumer",
    "kafka.future",
    "kafka.net",
    "kafka.net.connection",
    "kafka.net.inet",
    "kafka.net.sasl.oauth",
    "kafka.net.transport",
    "kafka.producer.future",
    "kafka.producer.producer_batch",
    "kafka.protocol.consumer.metadata",
    "kafka.record",
    "kafka.record.default_records",
    "kafka.record.memory_records",
    "kafka.record.util",
}
"""What is imported from behind ``kafka``, ``kafka.admin`` and ``kafka.errors``."""

RECEIVERS: Final[dict[str, type]] = {
    "accumulator": RecordAccumulator,
    "batch": ProducerBatch,
    "batch.records": MemoryRecordsBuilder,
    "client": KafkaNetClient,
    "cluster": ClusterMetadata,
    "connection": KafkaConnection,
    "connector": KafkaConnectionManager,
    "connector.cluster": ClusterMetadata,
    "consumer": KafkaConsumer,
    "coordinator": ConsumerCoordinator,
    "half_made": KafkaNetClient,
    "fetcher": Fetcher,
    "made[-1]": KafkaNetClient,
    "manager": KafkaConnectionManager,
    "net": NetworkSelector,
    "producer": KafkaProducer,
    "result": FutureProduceResult,
    "producer._sender": Sender,
    "self._net": NetworkSelector,
    "self._result": TransactionalRequestResult,
    "sender": Sender,
    "split": FutureProduceResult,
    "transactions": TransactionManager,
    "unbound": KafkaProducer,
}
"""What an expression of kafka_private_parts.py, secured_connection.py or record_appending.py is."""
OUTSIDE: Final = {"self", "cls", "theirs"}
"""What a class calls itself, and kafka-python's class that it extends: those are read from the classes."""


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def kafka_users() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(SOURCES.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(modules_in(tree)):
            yield path, tree


def modules_in(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        yield from (name for name in names if name.partition(".")[0] == "kafka")


def attributes(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Each ``receiver.name`` of a tree."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield ast.unparse(node.value), node.attr


@cache
def names_of(owner: type) -> frozenset[str]:
    """The names that a class of kafka-python has: its members, and the attributes that its methods set."""
    found = {name for name in dir(owner) if name == "__next__" or not name.startswith(("__", "_abc"))}
    for each in owner.__mro__:
        if each.__module__.startswith("kafka."):
            found |= {
                node.attr
                for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(each))))
                if isinstance(node, ast.Attribute)
                and isinstance(node.ctx, ast.Store)
                and ast.unparse(node.value) == "self"
            }
    return frozenset(found)


def subclasses(holder: Any) -> Iterator[tuple[type, type]]:
    """Our classes that extend one of kafka-python's, with that one."""
    for each in [*vars(holder).values()]:
        if not inspect.isclass(each) or not each.__module__.startswith("worker.broker"):
            continue
        foreign = [base for base in each.__bases__ if base.__module__.startswith("kafka.")]
        if foreign and not issubclass(each, Exception):
            yield each, foreign[0]
            yield from subclasses(each)


def extended() -> Iterator[tuple[type, str]]:
    """What our subclasses use or override of kafka-python's classes."""
    pairs = {
        pair
        for module in (
            assignor,
            bounded_record_batches,
            secured_connection,
            kafka_private_parts,
            paced_coordinator,
            rebalance_listener,
        )
        for pair in subclasses(module)
    }
    for ours, theirs in pairs:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(ours))).body
        assert isinstance(tree, ast.ClassDef)
        inner = {id(node) for each in tree.body if isinstance(each, ast.ClassDef) for node in ast.walk(each)}
        outer = [node for node in ast.walk(tree) if id(node) not in inner]
        used = {
            node.attr
            for node in outer
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) in OUTSIDE
        }
        for name in {*used, *vars(ours)} & names_of(theirs):
            yield theirs, name


def found_parts() -> dict[type, set[str]]:
    found: dict[type, set[str]] = {}
    tree = ast.parse(
        "".join(path.read_text(encoding="utf-8") for path in (PRIVATE_PARTS, SIGN_IN, APPENDING)).replace(
            "from __future__ import annotations", ""
        )
    )
    for receiver, name in attributes(tree):
        owner = RECEIVERS.get(receiver)
        if owner is None:
            assert receiver in OUTSIDE or not is_private(name), (
                f"{receiver}.{name} is of no class in RECEIVERS"
            )
        elif is_private(name) or (owner not in PUBLIC and name not in ADDED):
            found.setdefault(owner, set()).add(name)
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and node.value.endswith("_response")
        ):
            found.setdefault(ConsumerCoordinator, set()).add(node.value)
    for owner, name in extended():
        found.setdefault(owner, set()).add(name)
    return found


def test_the_table_names_every_private_part_that_is_used() -> None:
    assert found_parts() == PARTS


@pytest.mark.parametrize(
    ("owner", "name"),
    [(owner, name) for owner, names in PARTS.items() for name in sorted(names)],
    ids=lambda each: getattr(each, "__qualname__", each),
)
def test_the_installed_version_has_every_part(owner: type, name: str) -> None:
    assert name in names_of(owner)


@pytest.mark.parametrize("name", sorted(ADDED))
def test_what_is_added_to_its_objects_is_no_name_of_its_own(name: str) -> None:
    assert not any(name in names_of(owner) for owner in PARTS)


def test_only_four_modules_use_a_private_part() -> None:
    """All others import kafka-python as anybody does, so an upgrade breaks them only with a change that it announces."""
    found = {
        (str(path.relative_to(SOURCES)), f"{receiver}.{name}")
        for path, tree in kafka_users()
        if path not in {PRIVATE_PARTS, SIGN_IN, BATCHES, APPENDING}
        for receiver, name in attributes(tree)
        if is_private(name) and receiver not in {"self", "cls"}
    }

    assert found == set()


def test_the_table_names_every_global_that_is_replaced() -> None:
    kafka_private_parts.install_replacements()

    assert {
        (name, key)
        for name, module in [*sys.modules.items()]
        if name.partition(".")[0] == "kafka" and isinstance(module, ModuleType)
        for key, value in [*vars(module).items()]
        if str(getattr(value, "__module__", "")).startswith("worker.")
    } == REPLACED


@pytest.mark.parametrize(("module", "name"), sorted(REPLACED))
def test_the_installed_version_uses_every_global_that_is_replaced(module: str, name: str) -> None:
    """One that it has and does not look up any more would be replaced without effect."""
    tree = ast.parse(inspect.getsource(importlib.import_module(module)))

    assert name in {
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }


def test_the_table_names_every_module_behind_the_public_ones() -> None:
    found = {module for _, tree in kafka_users() for module in modules_in(tree)}

    assert found - {"kafka", "kafka.admin", "kafka.errors"} == MODULES


@pytest.mark.parametrize("module", sorted(MODULES))
def test_the_installed_version_has_every_module(module: str) -> None:
    importlib.import_module(module)
