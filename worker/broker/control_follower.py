# Follows the control topic: one thread that reads it whole, passes on what is in force, and then every further order.
#
# It retries without end, and starts again from the beginning whenever it cannot be sure to have seen everything: a topic that
# was recreated, an offset that is gone. What an order means is decided in the domain; how the topic is read is in
# control_topic.py. While there is no such topic, it looks for one.

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final, Protocol

from kafka import errors

from worker.broker.control_topic import ControlTopicReader, ControlTopicState
from worker.broker.error_mapping import TRANSIENT, thread_failure
from worker.broker.kafka_private_parts import connection_failure
from worker.broker.kafka_refusals import refusal_of
from worker.broker.topic_admin import control_problems, inspect_control, is_another_topic
from worker.domain.contract.control_records import ControlRecord, UnreadableControl, is_over
from worker.domain.effects import LogEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from worker.broker.active_kafka_refusals import ActiveKafkaRefusals
    from worker.broker.control_topic import ControlEntry
    from worker.broker.options import KafkaOptions
    from worker.broker.topic_admin import Topic
    from worker.errors import SettingProblem, WorkerError

PARTY: Final = "control"
"""The follower's name among the parties that Kafka may refuse (active_kafka_refusals.py)."""
BACKOFF_SECONDS: Final = (0.2, 5.0)
"""After a failure: the first wait, which doubles up to the second."""
LOOK_SECONDS: Final = 10.0
"""How often a topic that does not exist, or does not fit, is looked for again."""
JUDGE_SECONDS: Final = 5.0
"""How often the connection is judged while nothing is written."""
LINES: Final = 10
LINES_SECONDS: Final = 60.0
"""At most ``LINES`` unreadable records in ``LINES_SECONDS`` are logged, each in a line of its own; the others are only counted."""


class ControlListener(Protocol):
    """What the follower reports to. Its methods are called from the follower's thread, and must not block."""

    def orders(self, records: Sequence[ControlRecord]) -> None:
        """Apply control records; of one scope, the latest comes last. The first call has every order in force in the topic."""

    def no_orders(self) -> None:
        """Note that there is no control topic. Orders that were read before stay in force."""

    def failed(self, error: WorkerError) -> None:
        """Note that the thread has ended for good."""


class ControlFollower:
    """
    Follows the control topic of ``options``, which must have one, until it is closed.

    Attributes:
        unreadable: How many records changed nothing, because they could not be read.
        unfit: Why the topic that exists is not followed; empty if it is.

    """

    def __init__(
        self,
        options: KafkaOptions,
        listener: ControlListener,
        notice: Callable[[LogEvent], None],
        refusals: ActiveKafkaRefusals,
    ) -> None:
        assert options.control_topic is not None
        self._options = options
        self._topic = options.control_topic
        self._listener = listener
        self._notice = notice
        self._refusals = refusals
        self._state = ControlTopicState()
        self._topic_missing = False
        self._wake = threading.Condition()
        self._stopping = False
        self._logged_at: list[float] = []
        self.unreadable = 0
        self.unfit: list[SettingProblem] = []
        self._thread = threading.Thread(target=self._run, name="kafka-control", daemon=True)

    def __repr__(self) -> str:
        state = "stopping" if self._stopping else "running" if self._thread.is_alive() else "not running"
        return f"<ControlFollower of {self._topic} {state}, {self._state!r}>"

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self, timeout: float) -> bool:
        """End the thread. Return whether it has ended within ``timeout`` seconds."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    # On the thread.

    def _run(self) -> None:
        wait = BACKOFF_SECONDS[0]
        try:
            while not self._stopping:
                try:
                    self._look()
                    wait = BACKOFF_SECONDS[0]
                except (errors.OffsetOutOfRangeError, errors.LogTruncationError):
                    self._sleep(BACKOFF_SECONDS[0])  # the topic was cut or recreated: read it whole again
                except errors.KafkaError as exc:
                    refusal = refusal_of(exc, self._options, self._topic)
                    self._refusals.failed(PARTY, refusal)
                    if refusal is None and not isinstance(exc, TRANSIENT):
                        raise
                    self._log("control.read_failed", "warning", error=repr(exc), next_try_seconds=wait)
                    self._sleep(wait)
                    wait = min(2 * wait, BACKOFF_SECONDS[1])
        except Exception as exc:  # noqa: BLE001 - whatever it was, the thread must not end silently
            self._listener.failed(thread_failure("the follower of the control topic", exc))

    def _look(self) -> None:
        """Look for the topic, and follow it as long as it is the same one."""
        topic = inspect_control(self._options)
        if topic is None:
            self._refusals.passed(PARTY)
            self.unfit = []
            if not self._topic_missing:
                self._topic_missing = True
                self._log("control.topic_missing", "warning", topic=self._topic)
            self._listener.no_orders()
            self._sleep(LOOK_SECONDS)
            return
        self._topic_missing = False
        problems = control_problems(topic)
        if problems:
            if not self.unfit:
                for problem in problems:
                    self._log(
                        "topic.unfit", "error", setting=problem.name, topic=topic.name, remedy=problem.remedy
                    )
            self.unfit = problems
            self._sleep(LOOK_SECONDS)
            return
        self.unfit = []
        self._follow(topic)

    def _follow(self, topic: Topic) -> None:
        with ControlTopicReader(self._options, topic.name) as reader:
            self._read_whole(reader)
            self._refusals.passed(PARTY)
            judged = time.monotonic()
            while not self._stopping and not self._is_replaced(reader, topic):
                entries = reader.poll()
                records = [
                    record for entry in entries if (record := self._add_entry(entry, self._state)) is not None
                ]
                for entry in entries:
                    self._log_resume(entry)
                if records:
                    self._listener.orders(records)
                if entries or time.monotonic() > judged + JUDGE_SECONDS:
                    judged = time.monotonic()
                    self._judge_connection(reader)

    def _read_whole(self, reader: ControlTopicReader) -> None:
        """
        Read everything, and pass on the order of each scope that has one in force, or had one when the topic was read before.

        If the topic no longer has such an order, its end is passed on.
        """
        began, count = time.monotonic(), 0
        # Whatever was passed on before stays in `_state` until the topic is read whole, as reading may fail half-way.
        found = ControlTopicState()
        while not reader.at_end:
            if self._stopping:
                return
            entries = reader.poll()
            count += len(entries)
            for entry in entries:
                self._add_entry(entry, found)
            if not entries:
                self._judge_connection(reader)
        wall = time.time()
        # An order that was over before ends nothing: its scope may have another by now, of a guard, which is not written yet.
        before = self._state.in_force(wall)
        gone = [ControlRecord(scope, None) for scope in before if scope not in found.orders]
        held = [
            ControlRecord(scope, order)
            for scope, order in found.orders.items()
            if scope in before or not is_over(order, wall)
        ]
        self._state = found
        self._listener.orders([*gone, *held])
        self._log(
            "control.read",
            "info",
            topic=self._topic,
            records=count,
            orders=len(self._state.in_force(time.time())),
            seconds=round(time.monotonic() - began, 3),
        )

    def _add_entry(self, entry: ControlEntry, state: ControlTopicState) -> ControlRecord | None:
        """Note a record in ``state`` and return it; None if it cannot be read, which is counted, and logged within bounds."""
        read = state.add(entry, time.time())
        if not isinstance(read, UnreadableControl):
            return read
        self.unreadable += 1
        now = time.monotonic()
        self._logged_at = [at for at in self._logged_at if at > now - LINES_SECONDS]
        if len(self._logged_at) < LINES:
            self._logged_at.append(now)
            self._log(
                "control.unreadable", "error", topic=self._topic, offset=entry.offset, reason=read.reason
            )
        return None

    def _log_resume(self, entry: ControlEntry) -> None:
        if isinstance(entry.record, ControlRecord) and entry.record.order is None and entry.by is not None:
            self._log(
                "control.resumed", "info", scope=str(entry.record.scope), by=entry.by, reason=entry.reason
            )

    def _is_replaced(self, reader: ControlTopicReader, topic: Topic) -> bool:
        """Return whether the topic has gone, has more partitions, or is another of the same name."""
        return reader.partitions != 1 or is_another_topic(topic.topic_id, reader.topic_id)

    def _judge_connection(self, reader: ControlTopicReader) -> None:
        """Record whether the broker can be reached: an empty poll of kafka-python does not say."""
        failure = connection_failure(reader.consumer)
        if failure is None:
            self._refusals.passed(PARTY)
        else:
            self._refusals.failed(PARTY, refusal_of(failure, self._options, self._topic))

    # On any thread.

    def _sleep(self, seconds: float) -> None:
        with self._wake:
            self._wake.wait_for(lambda: self._stopping, seconds)

    def _log(self, event: str, level: str, **fields: object) -> None:
        self._notice(LogEvent(event, level, fields))
