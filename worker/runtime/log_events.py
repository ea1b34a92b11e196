# The catalogue of log events: every name that a log line can have, its level, its fields and its meaning.
#
# A name is noun.verb_past. Nothing else is logged; tests compare the rows with the code.
# Fields hold no payload and no secret. The names of durations say their unit.
# Not here: how a line is written (logging_setup.py).

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Level = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class LogEventRow:
    """
    One row.

    Attributes:
        name: The line's ``event``.
        fields: The line's other fields.
        meaning: What happened, and what to do unless that is obvious.

    """

    name: str
    level: Level
    fields: tuple[str, ...]
    meaning: str


_ROWS: Final[tuple[LogEventRow, ...]] = (
    # the process
    LogEventRow(
        "worker.started",
        "info",
        ("version", "name", "group", "apps"),
        "The process is up; it has not joined its consumer group yet.",
    ),
    LogEventRow(
        "worker.stopping", "info", ("signal", "drain_seconds"), "A signal came: nothing new is started."
    ),
    LogEventRow(
        "drain.cut_short",
        "warning",
        ("left_open",),
        "The drain ends before its time: another topic has the command topic's name, so what is done and not yet published never can be. "
        "`worker.refused` has said what to do.",
    ),
    LogEventRow(
        "worker.stopped",
        "info",
        ("exit_code", "left_open", "seconds"),
        "The process ends. "
        "`left_open` counts the commands that it still waited for: the next owner carries out these, and all others without an outcome.",
    ),
    LogEventRow(
        "worker.failed",
        "error",
        ("reason",),
        "The process ends with exit code 1. The traceback says where it failed.",
    ),
    LogEventRow(
        "worker.refused",
        "error",
        ("reason",),
        "The worker must not go on: it starts nothing new and is not ready until all replicas are stopped and started again.",
    ),
    LogEventRow(
        "worker.killed", "warning", ("signal",), "A second signal came: the process ends without draining."
    ),
    LogEventRow(
        "loop.stalled",
        "warning",
        ("seconds",),
        "The event loop was blocked this long: the machine is short of CPU.",
    ),
    LogEventRow(
        "files.limited",
        "warning",
        ("needed", "limit", "remedy"),
        "The system allows fewer file descriptors than the connections to all endpoints may need: in a raid some would fail.",
    ),
    LogEventRow("server.started", "info", ("host", "port"), "The server for health and metrics listens."),
    LogEventRow("thread.crashed", "error", ("thread",), "A thread died of an exception: a bug."),
    LogEventRow("library.logged", "info", ("logger", "message"), "A library logged this, at its own level."),
    LogEventRow(
        "log.event_unlisted",
        "error",
        ("name",),
        "A log event is not in the catalogue: a bug.",
    ),
    LogEventRow(
        "log.dropped",
        "warning",
        ("count",),
        "This many lines are missing here: nobody read the log, or its disk was full. The worker went on.",
    ),
    # orders
    LogEventRow(
        "control.ordered",
        "warning",
        ("scope", "state", "by", "reason", "until"),
        "An order of the control topic, or of a guard, holds from now on for these commands.",
    ),
    LogEventRow(
        "control.ended",
        "warning",
        ("scope", "state", "by", "reason"),
        "This order holds no longer: it was taken back, or its time is over.",
    ),
    LogEventRow(
        "controls.omitted",
        "warning",
        ("count",),
        "In the last second this many more orders began or ended than have a line.",
    ),
    LogEventRow(
        "control.resumed",
        "info",
        ("scope", "by", "reason"),
        "Somebody has taken back what was ordered for this scope.",
    ),
    LogEventRow(
        "control.read",
        "info",
        ("topic", "records", "orders", "seconds"),
        "The control topic was read whole: so many orders are in force.",
    ),
    LogEventRow(
        "control.unreadable",
        "error",
        ("topic", "offset", "reason"),
        "A record of the control topic changes nothing, because it cannot be read. At most ten lines a minute.",
    ),
    LogEventRow(
        "control.topic_missing",
        "warning",
        ("topic",),
        "There is no control topic: nobody can stop commands. What was in force before stays so. It is looked for every "
        "few seconds.",
    ),
    LogEventRow(
        "control.read_failed",
        "warning",
        ("error", "next_try_seconds"),
        "The control topic could not be read. What is in force stays so; the worker retries.",
    ),
    LogEventRow(
        "control.write_failed",
        "warning",
        ("scope", "reason", "next_try_seconds"),
        "A guard's order holds here, and could not be written for the other replicas; the worker retries.",
    ),
    LogEventRow(
        "guard.tripped",
        "warning",
        ("scope", "state", "reason"),
        "A scope sent more than its guard allows, and is stopped by itself. Nothing is lost: its commands wait.",
    ),
    # partitions
    LogEventRow(
        "partitions.assigned", "info", ("partitions",), "A rebalance gave these partitions to this replica."
    ),
    LogEventRow(
        "partitions.revoked",
        "info",
        ("partitions", "left_open", "seconds"),
        "A rebalance took these partitions, after a handover of this many seconds. "
        "`left_open` counts the commands that it still waited for: the next owner carries out these, and all others without an outcome.",
    ),
    LogEventRow(
        "partitions.lost",
        "warning",
        ("partitions", "left_open"),
        "A rebalance took these partitions without a handover: Kafka did not hear from this replica in time. The next owner redoes "
        "what was open.",
    ),
    LogEventRow(
        "partition.restore_failed",
        "warning",
        ("partition", "reason", "next_try_seconds"),
        "What was done on the partition could not be read. Its commands wait; the worker retries.",
    ),
    LogEventRow(
        "offset.out_of_range",
        "error",
        ("partition", "was", "now", "lost"),
        "Kafka has deleted commands that were never read (retention, or a recreated topic): they are lost.",
    ),
    LogEventRow(
        "record.misplaced",
        "warning",
        ("reason", "issuer", "partition", "offset"),
        "This issuer's records are in the wrong place: no_key, key_not_target, two_partitions or partitioner. Order and deduplication "
        "are not promised for them. Logged once for each issuer and reason.",
    ),
    LogEventRow(
        "record.rejected",
        "warning",
        ("partition", "offset", "issuer", "command_id", "code", "field"),
        "A record is not a command that can be carried out. Its dead letter and its outcome say why. At most ten lines a second.",
    ),
    LogEventRow(
        "command.failed",
        "warning",
        (
            "partition",
            "offset",
            "issuer",
            "command_id",
            "action",
            "app",
            "target",
            "code",
            "request_id",
            "attempts",
        ),
        "A command has failed, and its outcome and dead letter are published. The code is Tencent's, of its first user that failed. At "
        "most ten lines a second.",
    ),
    LogEventRow(
        "command.cancelled",
        "warning",
        ("partition", "offset", "issuer", "command_id", "action", "app", "target", "code", "attempts"),
        "A command was not sent because an operator cancelled it; its outcome and dead letter are published. At most ten lines a second.",
    ),
    LogEventRow(
        "failures.omitted",
        "warning",
        ("count", "codes"),
        "In the last second this many more commands failed or were cancelled than have a line, for these codes.",
    ),
    LogEventRow(
        "rejections.omitted",
        "warning",
        ("count", "codes"),
        "In the last second this many more records were rejected than have a line, for these reasons.",
    ),
    LogEventRow(
        "record.not_read",
        "warning",
        ("partition", "offset", "reason"),
        "A record is too large to be read, or its batch cannot be unpacked. Its dead letter has size and hash.",
    ),
    # endpoints and apps
    LogEventRow(
        "breaker.opened",
        "warning",
        ("app", "endpoint", "error_code", "error", "http_status", "reason", "remedy"),
        "The endpoint does not answer, or something other than Tencent does: only probes are sent until it answers. No command fails "
        "because of it.",
    ),
    LogEventRow("breaker.closed", "info", ("app", "endpoint"), "The endpoint answers again."),
    LogEventRow(
        "app.halted",
        "error",
        ("app", "endpoint", "error_code", "reason", "remedy"),
        "Tencent refuses the app's configuration: its commands wait until it is fixed.",
    ),
    LogEventRow("app.resumed", "info", ("app", "endpoint"), "Tencent accepts the app's configuration again."),
    LogEventRow(
        "app.locked",
        "error",
        ("app", "endpoint", "error_code", "seconds"),
        "Too many bad signatures: Tencent refuses everything of the app for this long.",
    ),
    LogEventRow(
        "endpoint.halted",
        "error",
        ("app", "endpoint", "error_code", "reason", "remedy"),
        "All targets of the endpoint are refused: no permission, an unlisted code, or something on the way. Its commands wait.",
    ),
    LogEventRow(
        "endpoint.resumed",
        "info",
        ("app", "endpoint"),
        "A request to the endpoint has passed: its commands go on.",
    ),
    # Kafka
    LogEventRow(
        "kafka.connect_failed",
        "warning",
        ("error", "next_try_seconds"),
        "No broker could be reached. The worker retries without end.",
    ),
    LogEventRow(
        "kafka.poll_failed", "warning", ("error", "next_try_seconds"), "A poll failed; the worker retries."
    ),
    LogEventRow(
        "kafka.leave_failed",
        "warning",
        ("error", "next_try_seconds"),
        "The worker could not leave the group cleanly.",
    ),
    LogEventRow(
        "kafka.publish_failed",
        "warning",
        ("error",),
        "A transaction failed. Its results are kept and published again.",
    ),
    LogEventRow(
        "kafka.abort_failed",
        "warning",
        ("error",),
        "A transaction could not be aborted; the producer is replaced.",
    ),
    LogEventRow(
        "kafka.refused",
        "error",
        ("party", "kind", "topic", "error", "reason", "remedy", "failures", "seconds"),
        "Kafka refuses something until somebody changes it. Logged when it begins and once a minute; nothing is lost meanwhile.",
    ),
    LogEventRow(
        "kafka.accepted", "info", ("party", "kind", "seconds"), "Kafka accepts again what it refused."
    ),
    LogEventRow(
        "kafka.record_limit_lowered",
        "warning",
        ("topic", "record_bytes", "limit_bytes", "message_bytes"),
        "A record was refused for its size: smaller ones are published from now on. message_bytes is the topic's max.message.bytes.",
    ),
    LogEventRow(
        "kafka.records_shortened",
        "warning",
        ("records",),
        "This many records were published without their key, or outcomes without their history, because they would not fit.",
    ),
    LogEventRow("kafka.commit_unanswered", "warning", ("error",), "A commit has no answer yet."),
    LogEventRow(
        "kafka.commit_unknown",
        "warning",
        ("error", "next_try_seconds"),
        "A commit got no answer: the committed offsets show whether it happened.",
    ),
    LogEventRow(
        "kafka.handover_timed_out",
        "warning",
        ("partitions", "seconds"),
        "The loop did not answer a revocation in time.",
    ),
    LogEventRow("kafka.handover_failed", "error", ("partitions", "error"), "A handover failed: a bug."),
    LogEventRow(
        "kafka.partition_restored",
        "info",
        ("partition", "position", "known", "seconds"),
        "What was done before on this partition has been read.",
    ),
    LogEventRow(
        "kafka.partition_empty",
        "info",
        ("partition",),
        "The partition is new: nothing was ever written to it or committed for it.",
    ),
    LogEventRow(
        "kafka.no_committed_offset",
        "warning",
        ("partition", "start", "position", "records", "oldest_age_seconds"),
        "The group has committed nothing here: it begins where kafka.start says, with this many records to read.",
    ),
    LogEventRow(
        "topic.unfit",
        "error",
        ("setting", "topic", "remedy"),
        "A topic was changed while the worker runs, so that a promise no longer holds.",
    ),
    LogEventRow(
        "kafka.commit_lost",
        "warning",
        ("partition", "position", "records", "oldest_age_seconds"),
        "The committed offset is gone (expired or deleted), but the outcomes show what was done: the partition resumes after that.",
    ),
    LogEventRow(
        "partition.refused",
        "error",
        ("partition", "reason", "remedy"),
        "The committed offset is gone and the outcomes do not show where to resume: the partition waits until a person decides.",
    ),
    LogEventRow(
        "quota.lending",
        "info",
        ("topic",),
        "Replicas can lend each other permits: messages of the quota topic arrive.",
    ),
    LogEventRow(
        "quota.unavailable",
        "warning",
        ("topic", "reason"),
        "There is no quota topic, or it cannot be used: each replica has its own slices of the quota and borrows nothing, until it can. "
        "`moderation-worker topics create` creates it; `kafka.quota_topic: null` looks for none.",
    ),
    LogEventRow(
        "kafka.foreign_metadata",
        "warning",
        ("topic", "partition", "excerpt"),
        "Something else has committed for this group: the metadata is not the worker's, or belongs to another place. It is ignored.",
    ),
    # calls
    LogEventRow(
        "batch.answered",
        "info",
        (
            "call_id",
            "app",
            "endpoint",
            "target",
            "members",
            "number",
            "verdict",
            "error_code",
            "request_id",
            "elapsed_ms",
        ),
        "An HTTP request ended. The group service returns no RequestId: there it is null.",
    ),
    LogEventRow(
        "connection.refused",
        "error",
        ("app", "error", "reason"),
        "No connection to Tencent: the proxy or the authorities of http.ca_file do not allow it. At most once a minute for each app.",
    ),
    LogEventRow(
        "file.unusable",
        "error",
        ("file", "reason", "remedy"),
        "A file of the connections to Tencent has changed and cannot be used. What it held before is used until it is mended.",
    ),
    LogEventRow(
        "request.failed_strangely",
        "error",
        ("endpoint", "what"),
        "A request failed in an unforeseen way: please report it.",
    ),
    # signatures
    LogEventRow("signature.renewed", "info", ("app", "serial", "forced"), "A new signature is in use."),
    LogEventRow(
        "signature.key_changed",
        "info",
        ("app",),
        "The key file holds another key, which is used from now on.",
    ),
    LogEventRow(
        "signature.key_unreadable",
        "warning",
        ("app", "reason"),
        "The key file holds no key: the old key stays in use.",
    ),
)

EVENTS: Final[dict[str, LogEventRow]] = {row.name: row for row in _ROWS}
