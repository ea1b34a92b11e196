# The ports of the loop: what it needs of the world, as protocols.
#
# The adapters implement them, wiring.py chooses the implementation, tests bring their own. No behaviour here, and nothing
# of Kafka or HTTP.

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from worker.domain.contract.error_codes import Verdict
    from worker.domain.effects import Attempt, AttemptResult, RestoredPartition, Transaction
    from worker.domain.publish_results import PublishResult
    from worker.errors import SettingProblem
    from worker.runtime.call_runner import CallTask


class Client(Protocol):
    """Makes calls."""

    async def call(self, call: CallTask) -> AttemptResult:
        """Make one call with all its attempts; return the result of the last."""

    async def aclose(self) -> None:
        """Close all connections."""

    @property
    def signers(self) -> Mapping[str, Any]:
        """The signer of each app, which knows the age of its signature."""


class Consumer(Protocol):
    """Polls Kafka in a thread of its own. All methods are thread-safe."""

    def start(self) -> None:
        """Start the thread: join the group and poll."""

    def close(self, timeout: float) -> bool:
        """Hand over and leave the group; blocks for ``timeout`` seconds at most. Return whether it ended in time."""

    def begin(self, partition: int, position: int, epoch: int) -> None:
        """Start fetching a restored partition from ``position``."""

    def forget(self, partitions: Iterable[int]) -> None:
        """Note that the loop sends nothing more of these partitions, which are no longer owned."""

    def pause(self, partition: int) -> None:
        """Stop fetching the partition; what was fetched may still arrive."""

    def resume(self, partition: int) -> None:
        """Fetch the partition again."""

    def acknowledge(self) -> None:
        """Acknowledge one delivered batch, so that another may be delivered."""

    def may_send_until(self) -> float:
        """Return the monotonic time until which the membership is proven, so that requests may be sent; minus infinity for never."""

    def lag(self, partition: int) -> int | None:
        """Return how many offsets of the partition are not fetched yet; None if unknown."""

    def topic_id(self) -> str | None:
        """Return the current id of the command topic; None if unknown."""

    def partition_count(self) -> int | None:
        """Return the current number of partitions of the command topic; None if unknown."""


class Publisher(Protocol):
    """Publishes transactions in a thread of its own."""

    def publish(self, transaction: Transaction, done: Callable[[PublishResult], None]) -> None:
        """Start to publish; call ``done`` exactly once, from another thread, unless that fails. One transaction at a time."""

    def close(self, timeout: float) -> bool:
        """End the thread; blocks for ``timeout`` seconds at most. Return whether it ended in time."""


class QuotaChannel(Protocol):
    """Carries messages between replicas that lend each other permits, its own ones back to itself. Nothing depends on their arrival."""

    def start(self) -> None:
        """Start to hear and to send, if a topic is configured. Returns at once."""

    def send(self, payload: bytes) -> None:
        """Publish this soon, or never. Does not wait."""

    def close(self, timeout: float) -> bool:
        """Stop hearing and sending; blocks at most ``timeout`` seconds for each thread. Return whether all have ended in time."""


class PublishObserver(Protocol):
    """Sees each committed transaction."""

    def published(self, transaction: Transaction, now: float) -> None:
        """Take a transaction that was committed at the monotonic time ``now``. On the loop, for each: it must be quick."""


class CallObserver(Protocol):
    """
    Sees the calls and their attempts. On the loop, for each: its methods must be quick.

    Promised: each ``call_started`` has exactly one ``call_finished``, also when the call is cancelled or the worker ends, and
    no attempt of the call ends after it. So what is opened for a call in the one may be closed in the other.
    """

    def call_started(self, first: Attempt) -> None:
        """Take note of a call that starts with its ``first`` attempt."""

    def attempt_finished(self, attempt: Attempt, result: AttemptResult) -> None:
        """Take note of one HTTP request that ended."""

    def call_finished(self, last: Attempt, verdict: Verdict | None, seconds: float) -> None:
        """
        Take note of a call that ended ``seconds`` after it started.

        ``verdict`` is that of its last attempt, None if it was cancelled: by the engine (a breaker opens, an order, an expiry),
        by the worker's end, or by a fault of the code. Then ``last`` may never have been sent.
        """


class PartitionRestorer(Protocol):
    """Reads from Kafka what was done on a partition."""

    def restore(self, partition: int) -> RestoredPartition:
        """Return what was done and where to resume; blocks. Raises BrokerError; CommittedOffsetLostError if a person must decide."""

    def forget_refusals(self, partition: int) -> None:
        """Forget what Kafka has refused of a partition that is no longer ours."""


class ControlFollower(Protocol):
    """Follows the control topic. Thread-safe."""

    @property
    def unreadable(self) -> int:
        """How many records changed nothing, because they could not be read."""

    @property
    def unfit(self) -> Sequence[SettingProblem]:
        """Why the topic is not followed although it exists; empty if it is followed."""


class Refusal(Protocol):
    """Something that Kafka refuses."""

    @property
    def kind(self) -> str:
        """Which kind of request is refused: a label of the metric ``kafka_refused``."""

    @property
    def reason(self) -> str:
        """What is refused, as a sentence."""

    @property
    def remedy(self) -> str:
        """What an operator can do."""


class ActiveKafkaRefusals(Protocol):
    """Knows what Kafka refuses. Thread-safe."""

    @property
    def lasting(self) -> Sequence[Refusal]:
        """What Kafka has refused for long enough to be an obstacle."""


class Log(Protocol):
    """Logs events."""

    def __call__(self, event: str, /, **fields: object) -> None:
        """
        Log an event of the catalogue at its level. ``exc_info`` (an exception) adds a traceback.

        An unlisted name is logged as ``log.event_unlisted`` at level error: a typo must not end a worker.
        """
