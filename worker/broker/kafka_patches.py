# Every place where we reach behind kafka-python's public face, each in one function, with the reason.
#
# Written against kafka-python 3.0.12. tests/contract/broker/test_kafka_patches.py holds each function to what it says, so that
# an upgrade that changes one of them fails there, and not at night. Nothing else in the
# project touches a private name, but for batches.py, whose class is put in place here.

from __future__ import annotations

import base64
import contextlib
import ssl
import time
import uuid
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from kafka import errors
from kafka.consumer import group
from kafka.consumer.fetcher import Fetcher
from kafka.future import Future as KafkaFuture
from kafka.net import manager
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport
from kafka.record import legacy_records, memory_records

from worker.broker.batches import BoundedBatch
from worker.broker.unpacking import unpacked
from worker.domain.memory import record_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future

    from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer


POLL_BYTES: Final = 1024 * 1024
"""Of the records that one poll returns, all but the last."""
OLD_BATCH_BYTES: Final = 16 * 1024 * 1024

Client = TypeVar("Client", "KafkaConsumer", "KafkaProducer", "KafkaAdminClient")


def opened(
    kind: type[Client], arguments: dict[str, Any], secrets: Callable[[], Mapping[str, Any]] = dict
) -> Client:
    """
    A client of kafka-python of that kind. Raises its error when Kafka cannot be reached.

    A constructor that fails leaves its I/O thread and its sockets behind. The argument ``kafka_client`` is there to change
    how they are made; here it only remembers them, so that they can be closed. And it fails with "Unable to bootstrap",
    whatever the reason was (a wrong certificate, a wrong port): here the most telling one is told with it, and is its cause.

    ``secrets`` has the options that are kept in files. It is asked again before each connection that the client ever makes,
    and a sign-in that was refused is tried again: kafka-python would use what it was made with, and remember the refusal.
    """
    patch()
    made: list[Any] = []
    original: Any = kind.DEFAULT_CONFIG["kafka_client"]

    def remembered(**config: Any) -> Any:
        made.append(original(**config))
        _watch(made[-1]._manager, secrets)  # noqa: SLF001
        return made[-1]

    try:
        client = kind(**{**arguments, **_fresh(secrets), "kafka_client": remembered})
    except BaseException as exc:
        for each in made:
            each.close()
        reason = next((told for each in made if (told := _telling(each._manager))), None)  # noqa: SLF001
        if isinstance(exc, errors.KafkaTimeoutError) and reason is not None:
            raise errors.KafkaTimeoutError(f"{exc.args[0]}: {reason}") from reason
        raise
    cast("Any", client).watched_connector = made[-1]._manager  # noqa: SLF001 - each kind keeps it elsewhere
    return client


def connection_failure(client: KafkaConsumer | KafkaProducer | KafkaAdminClient) -> BaseException | None:
    """
    Why connections of the client fail now, with the host and port; None if none does.

    What its methods raise says only that something took too long.
    """
    return _telling(cast("Any", client).watched_connector)


def _fresh(secrets: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
    try:
        return secrets()
    except (OSError, ValueError) as exc:
        raise errors.KafkaConnectionError(f"the file of a secret cannot be read: {exc}") from exc


def _watch(connector: Any, secrets: Callable[[], Mapping[str, Any]]) -> None:
    """Notes which connections of a client fail and why, and gives each new one the secrets of now."""
    connect = connector.get_connection
    connector.failed_connections = {}

    def watched(node_id: Any, *args: Any, **named: Any) -> Any:
        if node_id in connector._conns:  # noqa: SLF001
            return connect(node_id, *args, **named)
        if not connector.connection_delay(node_id):
            connector._auth_failures.pop(node_id, None)  # noqa: SLF001
            with contextlib.suppress(errors.KafkaConnectionError):
                connector.config.update(_fresh(secrets))
        connection = connect(node_id, *args, **named)
        connection.init_future.add_callback(lambda _: connector.failed_connections.pop(node_id, None))
        connection.init_future.add_errback(lambda error: _note(connector, node_id, error))
        return connection

    connector.get_connection = watched


def _note(connector: Any, node_id: Any, error: BaseException) -> None:
    """Keeps the failure, unless an earlier one of the same broker tells more than "disconnected"."""
    earlier = connector.failed_connections.get(node_id)
    if isinstance(earlier, AUTHENTICATION) and not isinstance(error, AUTHENTICATION):
        return
    node = connector.cluster.broker_metadata(node_id)
    if node is not None and not isinstance(error, AUTHENTICATION):
        whose = "" if connector.cluster.is_bootstrap(node_id) else ", which is what the brokers advertise"
        cause = error
        error = errors.KafkaConnectionError(f"{node.host}:{node.port}{whose}: {_in_words(error)}")
        error.__cause__ = cause
    connector.failed_connections[node_id] = error


def _in_words(error: BaseException) -> str:
    return "its name cannot be resolved" if "DNS Resolution failure" in str(error) else str(error)


def _telling(connector: Any) -> BaseException | None:
    """Of the failures, the one that tells most: a refused sign-in before all others, and the last of those."""
    failures = [
        error
        for node_id, error in [*connector.failed_connections.items()]
        if connector.cluster.broker_metadata(node_id)
    ]
    return max(failures, key=lambda error: isinstance(error, AUTHENTICATION), default=None)


AUTHENTICATION: Final = (
    errors.SaslAuthenticationFailedError,
    errors.UnsupportedSaslMechanismError,
    errors.IllegalSaslStateError,
    errors.AuthorizationError,
)


def patch() -> None:
    """Puts ours in the place of some classes and functions of kafka-python, for the whole process."""
    connections: Any = manager
    connections.KafkaSSLTransport = _BoundedTls
    connections.KafkaTCPTransport = _WholeTcp
    batches: Any = memory_records
    batches.DefaultRecordBatch = BoundedBatch
    old_batches: Any = legacy_records
    for codec, number in (("gzip", 1), ("snappy", 2), ("lz4", 3)):
        setattr(old_batches, f"{codec}_decode", _bounded(number))
    consumers: Any = group
    consumers.Fetcher = BoundedFetcher


def _bounded(codec: int) -> Callable[[Any], bytes]:
    # The batches of Kafka 0.10 and before: of no use to producers of today, so one that is too large may stop the partition.
    def decode(packed: Any) -> bytes:
        whole = bytearray()
        for piece in unpacked(codec, bytes(packed)):
            whole += piece
            if len(whole) > OLD_BATCH_BYTES:
                raise errors.CorruptRecordError(
                    f"a batch of an old format unpacks to more than {OLD_BATCH_BYTES} bytes"
                )
        return bytes(whole)

    return decode


HANDSHAKE_SECONDS: Final = 10.0
"""As long as kafka-python gives a TCP connection to come about."""


def _last_words(received: tuple[bytes, Any]) -> tuple[bytes, Any]:
    """
    What was received, and only after it that the connection has ended.

    kafka-python throws away what comes together with the end. It is the answer of a broker that refuses a sign-in, and all that
    would be told is "socket disconnected".
    """
    data, error = received
    return data, None if data else error


class _WholeTcp(KafkaTCPTransport):
    def _sock_recv(self) -> Any:
        theirs: Any = super()
        return _last_words(theirs._sock_recv())  # noqa: SLF001


class _BoundedTls(KafkaSSLTransport):
    def _sock_recv(self) -> Any:
        theirs: Any = super()
        return _last_words(theirs._sock_recv())  # noqa: SLF001

    # kafka-python waits for TLS without a limit: a port that takes connections and says nothing (a frozen broker, a
    # balancer without one) would be waited for in silence, at the start and at each reconnection, for ever.

    async def handshake(self) -> None:
        until = time.monotonic() + HANDSHAKE_SECONDS
        try:
            while True:
                try:
                    self._sock.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    await self._net.wait_read(self._sock, timeout_at=until)
                except ssl.SSLWantWriteError:
                    await self._net.wait_write(self._sock, timeout_at=until)
        except BaseException:
            self._sock.close()
            raise


class BoundedFetcher(Fetcher):
    """Bounds a poll by the bytes of its records as well as by their number: each may be megabytes."""

    _left = POLL_BYTES

    class PartitionRecords(Fetcher.PartitionRecords):
        """What was fetched of one partition."""

        allowance = POLL_BYTES

        def take(self, n: int | None = None) -> list[Any]:
            """At most ``n`` of its next records, and no more once ``allowance`` is used up."""
            theirs: Any = super()
            theirs._maybe_raise_next_inline_exception()  # noqa: SLF001
            records: list[Any] = []
            try:
                for record in islice(self.record_iterator, n):
                    records.append(record)
                    self.allowance -= record_bytes(record)
                    if self.allowance <= 0:
                        break
            except Exception as exc:
                if not records:
                    raise
                self._next_inline_exception = exc
            return records

    def fetched_records(self, max_records: int | None = None, update_offsets: Any = True) -> Any:
        """What a poll returns."""
        self._left = POLL_BYTES
        theirs: Any = super()
        return theirs.fetched_records(max_records, update_offsets)

    def _append(self, drained: Any, part: Any, max_records: int, *others: Any) -> int:
        if self._left <= 0:
            return max_records  # as if they were taken: the poll is full
        part.allowance = self._left
        theirs: Any = super()
        taken: int = theirs._append(drained, part, max_records, *others)  # noqa: SLF001
        self._left = part.allowance
        return taken


def known_partitions(consumer: KafkaConsumer, topic: str) -> int | None:
    """How many partitions the topic has, as of the last metadata. The public method asks the cluster when it does not know."""
    cluster: Any = consumer._cluster  # noqa: SLF001
    partitions = cluster.partitions_for_topic(topic)
    return len(partitions) if partitions else None


def known_topic_id(consumer: KafkaConsumer, topic: str) -> str | None:
    """The id of the topic, as of the last metadata; None when it is not known, or the brokers are older than 2.8."""
    cluster: Any = consumer._cluster  # noqa: SLF001
    return id_text(cluster.topic_id(topic))


def id_text(topic_id: uuid.UUID | str | None) -> str | None:
    """A topic's id (some of kafka-python's answers hold it as a text) as Kafka's own tools print it; None for none, or zeros."""
    known = uuid.UUID(str(topic_id)) if topic_id else None
    return base64.urlsafe_b64encode(known.bytes).decode().rstrip("=") if known and known.int else None


def partition_count(producer: KafkaProducer, topic: str, seconds: float) -> int:
    """
    How many partitions the topic has; 0 when the cluster does not know it within so many seconds.

    The public method waits for ``max_block_ms``, which other things need to be long.
    """
    unbound: Any = producer
    try:
        partitions = unbound._wait_on_metadata(topic, seconds * 1000)  # noqa: SLF001
    except errors.KafkaTimeoutError:
        return 0
    return len(partitions)


def finish_join(consumer: KafkaConsumer) -> bool:
    """
    Whether the last poll left a join unfinished: then the next one must follow at once. To be called before each poll.

    A join that ends between two polls is thrown away by kafka-python, and begun again. And when it was metadata that made it
    join (the first to arrive after it subscribed, or a new partition), it is even forgotten: the consumer then stays without
    partitions and heartbeats for ever, unless it is told to join.
    """
    coordinator: Any = consumer._coordinator  # noqa: SLF001
    if coordinator.rejoining and not coordinator.rejoin_needed:
        coordinator.request_rejoin()
    return bool(coordinator.rejoining)


def release_parked(consumer: KafkaConsumer) -> None:
    """
    Lets records that were parked when their partition was paused come out again. To be called before each poll.

    What a poll had left over of a partition that is paused then is parked, and put back after a resume only when the place
    for the partition in work is empty. kafka-python never empties it: an exhausted partition stays there, and the parked one
    is neither returned nor fetched again, for ever.
    """
    fetcher: Any = consumer._fetcher  # noqa: SLF001
    if fetcher._next_partition_records is not None and not fetcher._next_partition_records:  # noqa: SLF001
        fetcher._next_partition_records = None  # noqa: SLF001


OUT: tuple[type[errors.KafkaError], ...] = (
    errors.UnknownMemberIdError,
    errors.IllegalGenerationError,
    errors.FencedInstanceIdError,
)
"""Answers that say: you are no member any more."""


def witness_membership(
    consumer: KafkaConsumer, proven: Callable[[float], None], out: Callable[[Exception], None]
) -> None:
    """
    Tells of each proof of membership, and of each answer that says that it has ended.

    ``proven(sent_at)`` is called when a heartbeat or a SyncGroup was answered without error, with the monotonic time at
    which it was *sent*: the broker has counted the session from there at the earliest. ``out(error)`` is called for the
    answers in ``OUT``. Both are called on kafka-python's I/O thread and must not block.

    kafka-python's own ``heartbeat.last_send`` counts heartbeats that are never answered, and a fenced static member is
    not told of it by ``poll()``: its heartbeats just end.
    """
    coordinator: Any = consumer._coordinator  # noqa: SLF001
    for name in ("_handle_heartbeat_response", "_process_sync_group_response"):
        setattr(coordinator, name, _witnessed(getattr(coordinator, name), proven, out))
    join = "_process_join_group_response"  # it waits for all others, so when it was sent proves nothing
    setattr(coordinator, join, _witnessed(getattr(coordinator, join), _ignore, out))


def _ignore(_: float) -> None:
    pass


def _witnessed(
    handle: Callable[[Any, float], Any],
    proven: Callable[[float], None],
    out: Callable[[Exception], None],
) -> Callable[[Any, float], Any]:
    def witnessed(response: Any, send_time: float) -> Any:
        try:
            answer = handle(response, send_time)
        except OUT as exc:
            out(exc)
            raise
        proven(send_time)
        return answer

    return witnessed


async def settled(consumer: KafkaConsumer, future: Future[None], seconds: float) -> bool:
    """
    Waits on kafka-python's loop, without blocking it, until ``future`` is done in whatever thread; False after ``seconds``.

    Its loop is not asyncio's and awaits only futures of its own. Completing such a one from another thread wakes the loop
    only at its next event (up to a heartbeat later), unless it is done through ``call_soon_threadsafe``.
    """
    net: Any = consumer._net  # noqa: SLF001
    manager: Any = consumer._manager  # noqa: SLF001
    done = KafkaFuture()

    def complete() -> None:
        if not done.is_done:
            done.success(None)

    def wake(_: object) -> None:
        try:
            net.call_soon_threadsafe(complete)
        except (AttributeError, RuntimeError):  # renamed, or the loop is closed: the slow way
            complete()

    future.add_done_callback(wake)
    try:
        await manager.wait_for(done, seconds * 1000)
    except errors.KafkaTimeoutError:
        return future.done()
    return True


class Pending:
    """
    A transactional request on its way.

    kafka-python's public methods wait for the answer without a limit; this one can be left and asked again.
    """

    __slots__ = ("_result",)

    def __init__(self, result: Any) -> None:
        self._result = result

    def wait(self, timeout: float) -> bool:
        """Whether it was answered within ``timeout`` seconds. Raises kafka-python's error if it failed."""
        return bool(self._result.wait(timeout_ms=max(0.0, timeout) * 1000))


def begin_offsets(producer: KafkaProducer, offsets: dict[Any, Any], metadata: Any) -> Pending:
    """
    ``send_offsets_to_transaction`` without the wait, and with these offsets alone.

    kafka-python keeps the offsets of a transaction that was aborted, and sends them with the next one. Partitions that have
    moved to another process since would be set back, with the broker's consent: it checks the member, not what it owns.
    """
    transactions: Any = producer._transaction_manager  # noqa: SLF001
    transactions._pending_txn_offset_commits.clear()  # noqa: SLF001
    result = transactions.send_offsets_to_transaction(offsets, metadata)
    producer._sender.wakeup()  # noqa: SLF001
    return Pending(result)


def begin_commit(producer: KafkaProducer) -> Pending:
    """``commit_transaction`` without the wait. If it raises, nothing was sent."""
    transactions: Any = producer._transaction_manager  # noqa: SLF001
    result = transactions.begin_commit()
    producer._sender.wakeup()  # noqa: SLF001
    return Pending(result)


def begin_abort(producer: KafkaProducer) -> Pending:
    """``abort_transaction`` without the wait."""
    transactions: Any = producer._transaction_manager  # noqa: SLF001
    result = transactions.begin_abort()
    producer._sender.wakeup()  # noqa: SLF001
    return Pending(result)


def is_broken(producer: KafkaProducer) -> bool:
    """Whether the producer had a fatal error: nothing can be done with it any more."""
    transactions: Any = producer._transaction_manager  # noqa: SLF001
    return bool(transactions.has_fatal_error())


def error_of(producer: KafkaProducer) -> BaseException | None:
    """The error that brought the producer's transaction down; what a method raises often only says that there was one."""
    transactions: Any = producer._transaction_manager  # noqa: SLF001
    error = transactions.last_error
    return error if isinstance(error, BaseException) else None


def discard(producer: KafkaProducer, timeout: float) -> None:
    """
    Closes a producer whose transaction is over or lost, within about ``timeout`` seconds, whatever state it is in.

    Its own ``close()`` first flushes, and raises, with its thread still running, when that takes too long.
    """
    sender: Any = producer._sender  # noqa: SLF001
    sender.force_close()
    with contextlib.suppress(errors.KafkaError):
        producer.close(timeout=timeout)
    deadline = time.monotonic() + timeout
    sender.join(max(0.0, deadline - time.monotonic()))
