# The catalogue of log events: every name that a log line can have, its level, its fields, and what it tells.
#
# A name is noun.verb_past. Nothing is logged that is not in here; tests compare the rows with the code.
# Fields hold no payload and no secret. Durations are seconds, and say so in their names.

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Level = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Event:
    """
    One row.

    Attributes:
        name: What stands in a line's ``event``.
        fields: What else stands there.
        meaning: What happened, and what to do if that is not plain.

    """

    name: str
    level: Level
    fields: tuple[str, ...]
    meaning: str


_ROWS: Final[tuple[Event, ...]] = (
    # the process
    Event(
        "worker.started",
        "info",
        ("version", "name", "group", "apps"),
        "The process is up; it is no member of its group yet.",
    ),
    Event("worker.stopping", "info", ("signal", "drain_seconds"), "A signal came: nothing new is begun."),
    Event(
        "worker.stopped",
        "info",
        ("exit_code", "left_open", "seconds"),
        "The end; what was left open is carried out by the next owner.",
    ),
    Event(
        "worker.failed", "error", ("reason",), "The process ends with exit code 1. The traceback says where."
    ),
    Event(
        "worker.refused",
        "error",
        ("reason",),
        "It must not go on as it is: it starts nothing new and is not ready, until all replicas were stopped and started.",
    ),
    Event(
        "worker.killed", "warning", ("signal",), "A second signal came: the process ends without draining."
    ),
    Event(
        "loop.stalled",
        "warning",
        ("seconds",),
        "The event loop did not run for so long: the machine is short of CPU.",
    ),
    Event(
        "files.limited",
        "warning",
        ("needed", "limit", "remedy"),
        "The system gives fewer file descriptors than the connections to all endpoints may need: in a raid some would fail.",
    ),
    Event("server.started", "info", ("host", "port"), "Health and metrics are served."),
    Event("thread.crashed", "error", ("thread",), "A thread died of an exception: a fault of the code."),
    Event("library.logged", "info", ("logger", "message"), "A line of a library, at its own level."),
    Event(
        "log.event_unlisted",
        "error",
        ("name",),
        "A log event that is not in the catalogue: a fault of the code.",
    ),
    Event(
        "log.dropped",
        "warning",
        ("count",),
        "So many lines were lost here: nobody read the log, or its disk was full. The worker went on.",
    ),
    # partitions
    Event(
        "partitions.assigned", "info", ("partitions",), "A rebalance gave these partitions to this replica."
    ),
    Event(
        "partitions.revoked",
        "info",
        ("partitions", "left_open", "seconds"),
        "A rebalance took them, after a handover of so many seconds. What was left open is the next owner's.",
    ),
    Event(
        "partitions.lost",
        "warning",
        ("partitions", "left_open"),
        "They went without a handover: this replica was not heard in time. The next owner redoes what was open.",
    ),
    Event(
        "partition.restore_failed",
        "warning",
        ("partition", "reason", "next_try_seconds"),
        "What is known of the partition could not be read back. Its commands wait; it is tried again.",
    ),
    Event(
        "offset.out_of_range",
        "error",
        ("partition", "was", "now", "lost"),
        "Kafka has deleted commands that were never read (retention, or a topic made anew): they are lost.",
    ),
    Event(
        "record.misplaced",
        "warning",
        ("reason", "issuer", "partition", "offset"),
        "This issuer's records are in the wrong place: no_key, key_not_target, two_partitions or partitioner. Order and deduplication "
        "are not promised for them. Told once for each issuer and reason.",
    ),
    Event(
        "record.rejected",
        "warning",
        ("partition", "offset", "issuer", "command_id", "code", "field"),
        "A record is no command that can be carried out. Its dead letter and its outcome say why. At most ten lines a second.",
    ),
    Event(
        "rejections.omitted",
        "warning",
        ("count", "codes"),
        "In the last second so many more records were rejected than have a line, for these reasons.",
    ),
    Event(
        "record.not_read",
        "warning",
        ("partition", "offset", "reason"),
        "A record is larger than is read, or its batch cannot be unpacked. Its dead letter tells size and hash.",
    ),
    # endpoints and apps
    Event(
        "breaker.opened",
        "warning",
        ("app", "endpoint", "error_code", "error", "http_status", "reason", "remedy"),
        "The endpoint does not answer, or another than Tencent does: only probes go until it answers. Nothing is failed for it.",
    ),
    Event("breaker.closed", "info", ("app", "endpoint"), "The endpoint answers again."),
    Event(
        "app.halted",
        "error",
        ("app", "endpoint", "error_code", "reason", "remedy"),
        "The app's configuration is refused: its commands wait until it is fixed.",
    ),
    Event("app.resumed", "info", ("app", "endpoint"), "The app's configuration is accepted again."),
    Event(
        "app.locked",
        "error",
        ("app", "endpoint", "error_code", "seconds"),
        "Too many bad signatures: Tencent takes nothing of the app for so long.",
    ),
    Event(
        "endpoint.halted",
        "error",
        ("app", "endpoint", "error_code", "reason", "remedy"),
        "Its targets are refused and none passes: no permission, a code of no table, or something on the way. Its commands wait.",
    ),
    Event(
        "endpoint.resumed", "info", ("app", "endpoint"), "Something of the endpoint has passed: all goes on."
    ),
    # Kafka
    Event(
        "kafka.connect_failed",
        "warning",
        ("error", "next_try_seconds"),
        "No broker could be reached. It is tried again without end.",
    ),
    Event("kafka.poll_failed", "warning", ("error", "next_try_seconds"), "A poll failed; it is tried again."),
    Event(
        "kafka.leave_failed",
        "warning",
        ("error", "next_try_seconds"),
        "The group could not be left in order.",
    ),
    Event(
        "kafka.publish_failed",
        "warning",
        ("error",),
        "A transaction could not be carried out. Its results are kept and go again.",
    ),
    Event(
        "kafka.abort_failed",
        "warning",
        ("error",),
        "A transaction could not be aborted; the producer is made anew.",
    ),
    Event(
        "kafka.refused",
        "error",
        ("party", "kind", "topic", "error", "reason", "remedy", "failures", "seconds"),
        "Kafka refuses something that does not pass by itself. Told when it begins and once a minute; nothing is lost meanwhile.",
    ),
    Event("kafka.accepted", "info", ("party", "kind", "seconds"), "What Kafka refused it accepts again."),
    Event(
        "kafka.record_limit_lowered",
        "warning",
        ("topic", "record_bytes", "limit_bytes", "message_bytes"),
        "A record was refused for its size: smaller ones are sent from now on. message_bytes is the topic's max.message.bytes.",
    ),
    Event(
        "kafka.records_shortened",
        "warning",
        ("records",),
        "So many records were published without their key, or outcomes without their history, because they would not fit.",
    ),
    Event("kafka.commit_unanswered", "warning", ("error",), "A commit has no answer yet."),
    Event(
        "kafka.commit_unknown",
        "warning",
        ("error", "next_try_seconds"),
        "A commit got no answer: it is found out from the committed offsets.",
    ),
    Event(
        "kafka.handover_timed_out",
        "warning",
        ("partitions", "seconds"),
        "The loop did not answer a revocation in time.",
    ),
    Event(
        "kafka.handover_failed", "error", ("partitions", "error"), "A handover failed: a fault of the code."
    ),
    Event(
        "kafka.partition_restored",
        "info",
        ("partition", "position", "known", "seconds"),
        "What was done before on this partition is known again.",
    ),
    Event(
        "kafka.no_committed_offset",
        "warning",
        ("partition", "start", "position", "records", "oldest_age_seconds"),
        "The group has committed nothing here: it begins where kafka.start says, with so many records before it.",
    ),
    Event(
        "topic.unfit",
        "error",
        ("setting", "topic", "remedy"),
        "A topic was changed while the worker runs, so that a promise does not hold any more.",
    ),
    Event(
        "kafka.commit_lost",
        "warning",
        ("partition", "position", "records", "oldest_age_seconds"),
        "The committed offset is gone (expired, or deleted), and the outcomes tell what was done: it goes on behind that.",
    ),
    Event(
        "partition.refused",
        "error",
        ("partition", "reason", "remedy"),
        "The committed offset is gone, and the outcomes leave a doubt: the partition waits until a person has decided.",
    ),
    Event(
        "kafka.foreign_metadata",
        "warning",
        ("topic", "partition", "excerpt"),
        "Something else has committed for this group: the commit's metadata is not ours, or of another place. It skips nothing.",
    ),
    # calls
    Event(
        "batch.answered",
        "info",
        ("call_id", "endpoint", "members", "number", "verdict", "error_code", "elapsed_ms"),
        "A request ended.",
    ),
    Event(
        "request.failed_strangely",
        "error",
        ("endpoint", "what"),
        "A request failed in a way that is in no table: report it.",
    ),
    # signatures
    Event("signature.renewed", "info", ("app", "serial", "forced"), "A new signature is in use."),
    Event(
        "signature.key_changed", "info", ("app",), "The key file holds another key, which counts from now on."
    ),
    Event(
        "signature.key_unreadable",
        "warning",
        ("app", "reason"),
        "The key file holds no key: the old key stays in use.",
    ),
)

EVENTS: Final[dict[str, Event]] = {row.name: row for row in _ROWS}


def page() -> str:
    """The text of config/events.md."""
    lines = [
        "# Log events",
        "",
        "Made from `worker/runtime/log_events.py`; change that, then `make docs`.",
        "",
        "One JSON object a line (`log.format: json`): `time`, `level`, `event`, and the fields below; with an exception also",
        "`exception`. No field holds a payload, a key or a signature. Fields that are not known at the time are left out or null.",
        "",
        "| event | level | fields | what it tells |",
        "|---|---|---|---|",
    ]
    for row in EVENTS.values():
        fields = ", ".join(f"`{field}`" for field in row.fields) or "none"
        lines.append(f"| `{row.name}` | {row.level} | {fields} | {row.meaning} |")
    return "\n".join(lines) + "\n"
