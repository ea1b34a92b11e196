# Most uses of kafka-python's private parts, each in one function with its reason.
#
# Written for kafka-python 3.0.12. tests/contract/broker/test_kafka_private_parts.py checks the behaviour of each function and
# tests/unit/broker/test_private_parts.py the names that are used, so an upgrade that changes them fails there. No other
# module uses a private name, except bounded_record_batches.py, secured_connection.py and dns_lookup.py, whose parts are installed here,
# and record_appending.py.

from __future__ import annotations

import base64
import contextlib
import errno
import time
import uuid
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from kafka import KafkaProducer, errors
from kafka.consumer import group
from kafka.consumer.fetcher import Fetcher
from kafka.net import manager
from kafka.protocol.consumer.metadata import ConsumerProtocolAssignment
from kafka.record import legacy_records, memory_records

from worker.broker.batch_search import SearchedBatch
from worker.broker.bounded_record_batches import BoundedRecordBatch
from worker.broker.decompression import decompressed
from worker.broker.dns_lookup import connect, in_words
from worker.broker.error_mapping import CredentialError
from worker.broker.paced_coordinator import PacedCoordinator
from worker.broker.secured_connection import (
    DrainingTcpTransport,
    SaslConnection,
    TlsTransportWithDeadline,
    done_within,
)
from worker.domain.memory_budget import POLL_BYTES, record_bytes
from worker.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from concurrent.futures import Future

    from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition

    from worker.broker.batch_search import SearchTerms

OLD_BATCH_BYTES: Final = 16 * 1024 * 1024
"""The most that a batch of an old format may unpack to."""

Client = TypeVar("Client", "KafkaConsumer", "KafkaProducer", "KafkaAdminClient")


def open_client(
    kind: type[Client], arguments: dict[str, Any], secrets: Callable[[], Mapping[str, Any]] = dict
) -> Client:
    """
    Open a client of kafka-python. Raises its error when Kafka cannot be reached.

    A constructor that fails leaves its I/O thread and its sockets behind. The argument ``kafka_client`` is the hook to make
    them; here it only remembers them, so that they can be closed. kafka-python also fails with "Unable to bootstrap" whatever
    the reason was (a wrong certificate, a wrong port): here the most specific reason is added, and is the cause.

    ``secrets`` returns the options that are kept in files. It is called again before each connection that the client makes,
    and a refused sign-in is retried: kafka-python would reuse what it was made with, and remember the refusal.
    """
    install_replacements()
    made: list[Any] = []
    original: Any = kind.DEFAULT_CONFIG["kafka_client"]

    def remembered(**config: Any) -> Any:
        made.append(original(**config))
        if cast("Any", kind) is KafkaProducer:
            _keep_requests(made[-1])
        _watch(made[-1]._manager, secrets)  # noqa: SLF001
        return made[-1]

    try:
        client = kind(**{**arguments, **_read_secrets(secrets), "kafka_client": remembered})
    except BaseException as exc:
        # BaseException, so Ctrl-C too: nobody has the client yet, so nobody else would close its connections.
        for half_made in made:
            half_made.close()
        managers = (half_made._manager for half_made in made)  # noqa: SLF001
        reason = next((failure for each in managers if (failure := _most_specific(each))), None)
        if isinstance(exc, errors.KafkaTimeoutError) and reason is not None:
            raise errors.KafkaTimeoutError(f"{exc.args[0]}: {reason}") from reason
        if _is_shortage(exc):
            raise errors.KafkaConnectionError(
                f"this machine has nothing left for a connection: {exc}"
            ) from exc
        raise
    cast("Any", client).watched_connector = made[-1]._manager  # noqa: SLF001 - each client keeps it under another name
    return client


def connection_failure(client: KafkaConsumer | KafkaProducer | KafkaAdminClient) -> BaseException | None:
    """
    Return why connections of the client fail now, with host and port; None if none does.

    The errors of its methods say only that something took too long.
    """
    return _most_specific(cast("Any", client).watched_connector)


SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def _is_shortage(error: BaseException) -> bool:
    """Return whether the machine had no descriptor, buffer or thread for a client, which passes as an outage does."""
    return (isinstance(error, OSError) and error.errno in SHORTAGES) or (
        isinstance(error, RuntimeError) and "start new thread" in str(error)
    )


def _read_secrets(secrets: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
    try:
        return secrets()
    except FileError as exc:
        raise CredentialError(
            "secret",
            f"a secret cannot be read: {exc}",
            "put it there, readable for the worker; the file is read again at each new connection",
        ) from exc


NOT_READY_SECONDS: Final = 0.05
"""How long the producer's thread waits after a connection that could not be made: it would ask again without a pause."""


def _keep_requests(client: Any) -> None:
    """
    Let ``await_ready`` return False where it would raise, so that no transactional request is lost.

    kafka-python's sender takes a request off its queue, waits for the coordinator's connection, and puts the request back if
    that is not ready. If the wait *raises* (the connection was refused, cut, or not trusted), it forgets the request: a commit
    would wait for its answer for ever.
    """
    await_ready = client.await_ready

    def ready_or_not(*args: Any, **named: Any) -> bool:
        try:
            return bool(await_ready(*args, **named))
        except errors.KafkaError:
            time.sleep(NOT_READY_SECONDS)
            return False

    client.await_ready = ready_or_not


def _watch(connector: Any, secrets: Callable[[], Mapping[str, Any]]) -> None:
    """Record which connections of a client fail and why, and give each new one the current secrets."""
    get_connection = connector.get_connection
    connector.failed_connections = {}
    connector.unread_secret = None

    def reload_secrets() -> Mapping[str, Any]:
        try:
            found = _read_secrets(secrets)
        except CredentialError as error:
            connector.unread_secret = error
            return {}  # the old one is used: it may be valid still
        connector.unread_secret = None
        connector.config.update(found)
        return found

    def watched(node_id: Any, *args: Any, **named: Any) -> Any:
        if node_id in connector._conns:  # noqa: SLF001
            return get_connection(node_id, *args, **named)
        if not connector.connection_delay(node_id):
            connector._auth_failures.pop(node_id, None)  # noqa: SLF001
            reload_secrets()
        connection = get_connection(node_id, *args, **named)
        connection.fresh_secrets = reload_secrets
        connection.init_future.add_callback(lambda _: connector.failed_connections.pop(node_id, None))
        connection.init_future.add_errback(lambda error: _record_failure(connector, node_id, error))
        return connection

    connector.get_connection = watched


def _record_failure(connector: Any, node_id: Any, error: BaseException) -> None:
    """Record the failure, unless the same broker has refused the sign-in, which says more than a later "disconnected"."""
    earlier = connector.failed_connections.get(node_id)
    error = _credential_in(error) or error
    if isinstance(error, AUTHENTICATION) and connector.unread_secret is not None:
        error = connector.unread_secret
    if isinstance(earlier, SPECIFIC) and not isinstance(error, SPECIFIC):
        return
    node = connector.cluster.broker_metadata(node_id)
    if node is not None and not isinstance(error, SPECIFIC):
        whose = "" if connector.cluster.is_bootstrap(node_id) else ", which is what the brokers advertise"
        cause = error
        error = errors.KafkaConnectionError(f"{node.host}:{node.port}{whose}: {in_words(error)}")
        error.__cause__ = cause
    connector.failed_connections[node_id] = error


def _credential_in(error: BaseException | None) -> CredentialError | None:
    while error is not None and not isinstance(error, CredentialError):
        error = error.__cause__ or error.__context__
    return error


def _most_specific(connector: Any) -> BaseException | None:
    """Return the most specific of the failures: a refused sign-in before any other, then the first recorded."""
    failures = [
        error
        for node_id, error in [*connector.failed_connections.items()]
        if connector.cluster.broker_metadata(node_id)
    ]
    return max(failures, key=lambda error: isinstance(error, SPECIFIC), default=None)


AUTHENTICATION: Final = (
    errors.SaslAuthenticationFailedError,
    errors.UnsupportedSaslMechanismError,
    errors.IllegalSaslStateError,
    errors.AuthorizationError,
)
SPECIFIC: Final = (*AUTHENTICATION, CredentialError)
"""Failures that say what an operator must change."""


def install_replacements() -> None:
    """Replace some of kafka-python's classes and functions by ours, for the whole process."""
    connections: Any = manager
    connections.KafkaSSLTransport = TlsTransportWithDeadline
    connections.KafkaTCPTransport = DrainingTcpTransport
    connections.KafkaConnection = SaslConnection
    connections.create_connection = connect
    batches: Any = memory_records
    batches.DefaultRecordBatch = BoundedRecordBatch
    old_batches: Any = legacy_records
    for codec, number in (("gzip", 1), ("snappy", 2), ("lz4", 3)):
        setattr(old_batches, f"{codec}_decode", _bounded_decoder(number))
    consumers: Any = group
    consumers.Fetcher = BoundedFetcher
    consumers.ConsumerCoordinator = GroupCoordinator


def _bounded_decoder(codec: int) -> Callable[[Any], bytes]:
    # Batches of Kafka 0.10 and before: no current producer writes them, so one that is too large may stop the partition.
    def decode(packed: Any) -> bytes:
        whole = bytearray()
        for piece in decompressed(codec, bytes(packed)):
            whole += piece
            if len(whole) > OLD_BATCH_BYTES:
                raise errors.CorruptRecordError(
                    f"a batch of an old format unpacks to more than {OLD_BATCH_BYTES} bytes"
                )
        return bytes(whole)

    return decode


NO_PARTITIONS: Final[bytes] = ConsumerProtocolAssignment(
    version=1, assigned_partitions=[], user_data=b""
).encode()
"""An assignment without a partition."""


class GroupCoordinator(PacedCoordinator):
    """A coordinator for a member that may be assigned nothing."""

    def _process_sync_group_response(self, response: Any, send_time: float) -> bytes:
        """
        Return what this member is assigned. Brokers send no bytes to one that the leader left out, which kafka-python cannot read.

        Only a program of somebody else leaves a member out: one that joined the group first, and so leads it.
        """
        theirs: Any = super()
        return theirs._process_sync_group_response(response, send_time) or NO_PARTITIONS  # noqa: SLF001


class BoundedFetcher(Fetcher):
    """Bounds a poll by the bytes of its records as well as by their number: each may be megabytes."""

    _left = POLL_BYTES

    class PartitionRecords(Fetcher.PartitionRecords):
        """The records fetched from one partition."""

        allowance = POLL_BYTES

        def take(self, n: int | None = None) -> list[Any]:
            """Take up to ``n`` records, and stop once ``allowance`` is used up."""
            theirs: Any = super()
            records: list[Any] = []
            try:
                theirs._maybe_raise_next_inline_exception()  # noqa: SLF001
                for record in islice(self.record_iterator, n):
                    records.append(record)
                    self.allowance -= record_bytes(record)
                    if self.allowance <= 0:
                        break
            except Exception as exc:
                if not records:
                    theirs.drain()  # what failed has nothing more, but would be asked for it without end
                    raise
                self._next_inline_exception = exc
            return records

        def _contains_abort_marker(self, batch: Any) -> bool:
            """Return whether the batch is the marker of an aborted transaction. kafka-python fails where compaction has emptied it."""
            theirs: Any = super()
            try:
                return bool(theirs._contains_abort_marker(batch))  # noqa: SLF001
            except StopIteration:
                return False

    def fetched_records(self, max_records: int | None = None, update_offsets: Any = True) -> Any:
        """Return the records of one poll."""
        self._left = POLL_BYTES
        theirs: Any = super()
        return theirs.fetched_records(max_records, update_offsets)

    def _append(self, drained: Any, part: Any, max_records: int, *others: Any) -> int:
        if self._left <= 0:
            return max_records  # reported as taken, which ends the poll
        part.allowance = self._left
        theirs: Any = super()
        taken: int = theirs._append(drained, part, max_records, *others)  # noqa: SLF001
        self._left = part.allowance
        return taken


class _ScannedBatches:
    """The batches of a fetch, each in the form in which it is searched. Those of Kafka 0.10 and before stay as they are."""

    def __init__(self, records: Any, terms: SearchTerms) -> None:
        self._records = records
        self._terms = terms

    def next_batch(self) -> Any:
        batch = self._records.next_batch()
        return SearchedBatch(batch, self._terms) if isinstance(batch, BoundedRecordBatch) else batch


def scan(consumer: KafkaConsumer, terms: SearchTerms | None) -> None:
    """
    From its next assignment on, let a consumer return one record for each batch, with a ``ScannedRecords`` as its value.

    ``terms`` are what is looked for; with None the consumer returns records again.

    Aborted records are left out and each position is right, as if the records had been read one by one.
    """
    fetcher: Any = consumer._fetcher  # noqa: SLF001
    if terms is None:
        fetcher.PartitionRecords = BoundedFetcher.PartitionRecords
        return
    wanted = terms

    class ScannedPartition(BoundedFetcher.PartitionRecords):
        def _unpack_records(self, tp: Any, records: Any, *deserializers: Any) -> Any:
            theirs: Any = super()
            return theirs._unpack_records(tp, _ScannedBatches(records, wanted), *deserializers)  # noqa: SLF001

    fetcher.PartitionRecords = ScannedPartition


def known_partitions(consumer: KafkaConsumer, topic: str) -> int | None:
    """Return how many partitions the topic has, as of the last metadata, without the request that the public method may send."""
    cluster: Any = consumer._cluster  # noqa: SLF001
    partitions = cluster.partitions_for_topic(topic)
    return len(partitions) if partitions else None


def known_topic_id(consumer: KafkaConsumer, topic: str) -> str | None:
    """Return the topic's id, as of the last metadata; None if it is unknown or the brokers are older than 2.8."""
    cluster: Any = consumer._cluster  # noqa: SLF001
    return id_text(cluster.topic_id(topic))


def id_text(topic_id: uuid.UUID | str | None) -> str | None:
    """Return a topic's id as Kafka's own tools print it; None for none or zeros. Some of kafka-python's answers hold a text."""
    known = uuid.UUID(str(topic_id)) if topic_id else None
    return base64.urlsafe_b64encode(known.bytes).decode().rstrip("=") if known and known.int else None


def partition_count(producer: KafkaProducer, topic: str, seconds: float) -> int:
    """
    Return how many partitions the topic has; 0 if the cluster does not know it. Raises KafkaTimeoutError if nobody answers in ``seconds``.

    The public method waits for ``max_block_ms``, which must be long for other reasons, and does not tell the two apart.
    """
    unbound: Any = producer
    cluster: Any = unbound._metadata  # noqa: SLF001
    answered_at = cluster._last_successful_refresh_ms  # noqa: SLF001
    try:
        partitions = unbound._wait_on_metadata(topic, seconds * 1000)  # noqa: SLF001
    except errors.KafkaTimeoutError:
        if cluster._last_successful_refresh_ms == answered_at:  # noqa: SLF001
            raise
        return 0
    return len(partitions)


def finish_join(consumer: KafkaConsumer) -> bool:
    """
    Return whether the last poll left a join unfinished, so that the next poll must follow at once. Call it before each poll.

    kafka-python drops a join that ends between two polls, and starts again. If metadata caused the join (the first after
    subscribing, or a new partition), it even forgets it: the consumer would stay without partitions and heartbeats for ever,
    so the join is requested here.
    """
    coordinator: Any = consumer._coordinator  # noqa: SLF001
    if coordinator.rejoining and not coordinator.rejoin_needed:
        coordinator.request_rejoin()
    return bool(coordinator.rejoining)


def release_parked(consumer: KafkaConsumer) -> None:
    """
    Let records come out again that were parked when their partition was paused. Call it before each poll.

    kafka-python parks what a poll left over of a paused partition. After a resume it takes it back only while its slot for
    the current partition is empty, which it never empties: an exhausted partition stays in it, and the parked one is neither
    returned nor fetched again.
    """
    fetcher: Any = consumer._fetcher  # noqa: SLF001
    if fetcher._next_partition_records is not None and not fetcher._next_partition_records:  # noqa: SLF001
        fetcher._next_partition_records = None  # noqa: SLF001


MEMBERSHIP_ENDED: Final[tuple[type[errors.KafkaError], ...]] = (
    errors.UnknownMemberIdError,
    errors.IllegalGenerationError,
    errors.FencedInstanceIdError,
)
"""Answers that say that this process is no longer a member."""


def witness_membership(
    consumer: KafkaConsumer, proven: Callable[[float], None], ended: Callable[[Exception], None]
) -> None:
    """
    Report each proof of membership, and each answer that says that it has ended.

    ``proven(sent_at)`` is called when a heartbeat or a SyncGroup was answered without error, with the monotonic time at
    which it was *sent*: the broker starts the session no earlier. ``ended(error)`` is called for the answers in
    ``MEMBERSHIP_ENDED``. Both are called on kafka-python's I/O thread and must not block.

    kafka-python's own ``heartbeat.last_send`` also counts heartbeats that are never answered. And ``poll()`` does not report
    that a static member was fenced: its heartbeats just stop.
    """
    coordinator: Any = consumer._coordinator  # noqa: SLF001
    for name in ("_handle_heartbeat_response", "_process_sync_group_response"):
        setattr(coordinator, name, _witnessed(getattr(coordinator, name), proven, ended))
    join = "_process_join_group_response"  # its answer waits for all members, so the time it was sent proves nothing
    setattr(coordinator, join, _witnessed(getattr(coordinator, join), _ignore, ended))


def _ignore(_: float) -> None:
    pass


def _witnessed(
    handle: Callable[[Any, float], Any],
    proven: Callable[[float], None],
    ended: Callable[[Exception], None],
) -> Callable[[Any, float], Any]:
    def witnessed(response: Any, send_time: float) -> Any:
        try:
            answer = handle(response, send_time)
        except MEMBERSHIP_ENDED as exc:
            ended(exc)
            raise
        proven(send_time)
        return answer

    return witnessed


async def wait_until_done(consumer: KafkaConsumer, future: Future[None], seconds: float) -> bool:
    """
    Wait on kafka-python's loop, without blocking it, until any thread completes ``future``. Return False after ``seconds``.

    The loop is not asyncio's and awaits only futures of its own. Completing one of those from another thread wakes the loop
    only at its next event (up to a heartbeat later), unless ``call_soon_threadsafe`` is used.
    """
    return await done_within(consumer._net, future, seconds)  # noqa: SLF001


class PendingRequest:
    """
    A transactional request that may not be answered yet.

    kafka-python's public methods wait for the answer without a limit; this can be waited for repeatedly, with a timeout.
    """

    __slots__ = ("_result",)

    def __init__(self, result: Any) -> None:
        self._result = result

    def wait(self, timeout: float) -> bool:
        """Return whether it was answered within ``timeout`` seconds. Raises kafka-python's error if it failed."""
        return bool(self._result.wait(timeout_ms=max(0.0, timeout) * 1000))


def begin_offsets(producer: KafkaProducer, offsets: dict[Any, Any], metadata: Any) -> PendingRequest:
    """
    Start ``send_offsets_to_transaction`` without waiting, and with these offsets only.

    kafka-python keeps the offsets of an aborted transaction and sends them with the next one. That would reset partitions
    that have moved to another process since, and the broker would accept it: it checks the member, not what it owns.
    """
    transactions: Any = producer._transaction_manager  # noqa: SLF001
    transactions._pending_txn_offset_commits.clear()  # noqa: SLF001
    result = transactions.send_offsets_to_transaction(offsets, metadata)
    producer._sender.wakeup()  # noqa: SLF001
    return PendingRequest(result)


def begin_partitions(producer: KafkaProducer, places: Iterable[TopicPartition]) -> None:
    """Add partitions to the transaction, before the first record that is appended to them."""
    transactions: Any = producer._transaction_manager  # noqa: SLF001
    for place in places:
        transactions.maybe_add_partition_to_transaction(place)


@contextlib.contextmanager
def flushing(producer: KafkaProducer) -> Iterator[None]:
    """
    Have what was sent leave now, whatever ``linger_ms`` says.

    The public ``flush()`` waits for the answers as well, and fails on a batch that is split because it is too large.
    kafka-python begins a flush of its own when it aborts what was not sent, and never ends it: here it ends with ours, else
    every later record would leave alone.
    """
    accumulator: Any = producer._accumulator  # noqa: SLF001
    accumulator.begin_flush()
    producer._sender.wakeup()  # noqa: SLF001
    try:
        yield
    finally:
        while accumulator.flush_in_progress():
            accumulator._flushes_in_progress.decrement()  # noqa: SLF001


def begin_commit(producer: KafkaProducer) -> PendingRequest:
    """Start ``commit_transaction`` without waiting. If it raises, nothing was sent."""
    transactions: Any = producer._transaction_manager  # noqa: SLF001
    result = transactions.begin_commit()
    producer._sender.wakeup()  # noqa: SLF001
    return PendingRequest(result)


def begin_abort(producer: KafkaProducer) -> PendingRequest:
    """Start ``abort_transaction`` without waiting."""
    transactions: Any = producer._transaction_manager  # noqa: SLF001
    result = transactions.begin_abort()
    producer._sender.wakeup()  # noqa: SLF001
    return PendingRequest(result)


def is_broken(producer: KafkaProducer) -> bool:
    """Return whether the producer had a fatal error and cannot be used any more."""
    transactions: Any = producer._transaction_manager  # noqa: SLF001
    return bool(transactions.has_fatal_error())


def error_of(producer: KafkaProducer) -> BaseException | None:
    """Return the error that failed the producer's transaction. What a method raises often says only that there was one."""
    transactions: Any = producer._transaction_manager  # noqa: SLF001
    error = transactions.last_error
    return error if isinstance(error, BaseException) else None


def discard(producer: KafkaProducer, timeout: float) -> None:
    """
    Close a producer whose transaction is over or lost, within about ``timeout`` seconds, whatever state it is in.

    Its own ``close()`` flushes, then waits for its thread, each for up to ``timeout``. Here the thread is asked to end first, and
    ends the flush when it does, so the two waits last about as long as one. If the flush raises, close() leaves the thread
    running: it gets what is left of the time.
    """
    deadline = time.monotonic() + timeout
    sender: Any = producer._sender  # noqa: SLF001
    sender.force_close()
    with contextlib.suppress(errors.KafkaError):
        producer.close(timeout=timeout)
    sender.join(max(0.0, deadline - time.monotonic()))
