# The table of metrics: name, type, labels, what each tells, and what moves it. There is no metric beside it.
#
# Registration (metrics.py), config/metrics.md and the tests of dashboards and alerts are made from these rows.
# Label sets are closed: an app, endpoint, action, code or partition; never a user, room or command.

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from worker.domain.memory import PARTS

PREFIX: Final = "moderation_worker_"

LIMITED_BY: Final = ("nothing", "quota", "throttle", "breaker", "halt", "target", "publishing")
Rebalance = Literal["assigned", "revoked", "lost"]

SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Of one request: Tencent answers in tens of milliseconds, and 10 s is the default timeout."""
LONG_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""Of a command: from an idle worker to a backlog of half an hour."""
SIZES: Final = (1.0, 2.0, 4.0, 8.0, 12.0, 16.0, 19.0, 20.0)
"""Members of a call: 20 is Tencent's most, and 19 what a good backlog reaches."""
COUNTS: Final = (1.0, 10.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0)

LANE: Final = ("app", "endpoint")
Type = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class MetricRow:
    """
    One metric.

    Attributes:
        key: Its name without the prefix (and, of a counter, without ``_total``).
        unit: What its value counts.
        meaning: What it tells.
        moved_by: What happens when it changes.
        buckets: Of a histogram, its upper bounds.

    """

    key: str
    type: Type
    unit: str
    labels: tuple[str, ...]
    meaning: str
    moved_by: str
    buckets: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        """As Prometheus stores it; of a histogram, without ``_bucket``, ``_sum`` and ``_count``."""
        return f"{PREFIX}{self.key}{'_total' if self.type == 'counter' else ''}"


ROWS: Final[tuple[MetricRow, ...]] = (
    # commands
    MetricRow("records", "counter", "records", (), "Records read from the command topic.", "a record arrives"),
    MetricRow("misplaced_records", "counter", "records", ("reason",), "Records in the wrong place, for which order and deduplication are not "
        "promised: no_key, key_not_target, two_partitions (the target's last one was on another), partitioner (placed by another hash than "
        "murmur2).", "a producer's keys or its partitioner are wrong"),
    MetricRow("commands", "counter", "commands", ("action", "status"), "Commands whose outcome was published.", "an outcome is published"),
    MetricRow("members", "counter", "members", ("action", "result", "code"), "Users of those commands, by result and Tencent's error code ("
        "0: none, other: one that is in no table).", "an outcome is published"),
    MetricRow("command_seconds", "histogram", "seconds", ("action",), "From reading a command to its end, without publishing.",
        "an outcome is published", LONG_SECONDS),
    MetricRow("dead_letters", "counter", "records", ("code",), "Records that went to the dead-letter topic, by reason.",
        "a command is rejected or failed"),
    # calls
    MetricRow("calls", "counter", "calls", (*LANE, "verdict"), "Calls that ended, by their last verdict.", "a call ends"),
    MetricRow("call_seconds", "histogram", "seconds", ("endpoint",), "From a call's first request to its end, retries and waits included.",
        "a call ends", SECONDS),
    MetricRow("batch_members", "histogram", "members", ("endpoint",), "Members that shared a call.", "a call starts", SIZES),
    MetricRow("tries", "counter", "requests", (*LANE, "verdict"), "HTTP requests, by verdict. `throttle` says that the quota was exceeded at "
        "Tencent: others use the app too.", "a request ends"),
    MetricRow("try_seconds", "histogram", "seconds", ("endpoint",), "Of one HTTP request, from sending to answer.", "a request ends", SECONDS),
    MetricRow("retries", "counter", "requests", LANE, "HTTP requests that were not the first of their call.", "a call is tried again"),
    MetricRow("splits", "counter", "searches", (), "Searches for the bad member of a refused batch.", "Tencent refuses a batch for a member"),
    MetricRow("inferred", "counter", "members", (), "Members that were refused by inference: what remained when all others had passed.",
        "a search ends"),
    MetricRow("recalled", "counter", "calls", (), "Waiting calls that were taken back.", "a breaker opens or a halt begins"),
    # the quota
    MetricRow("waiting_members", "gauge", "members", LANE, "Members that wait for a permit.", "commands come faster than they go"),
    MetricRow("oldest_waiting_seconds", "gauge", "seconds", LANE, "How long the one that has waited longest has waited.", "members wait"),
    MetricRow("open_calls", "gauge", "calls", LANE, "Calls in flight or between two tries.", "a call starts or ends"),
    MetricRow("permits_used", "gauge", "permits", LANE, "Permits taken: requests in flight, or answered less than a second ago.",
        "a request is sent"),
    MetricRow("permits_granted", "gauge", "permits", LANE, "Permits that may be used: those owned, less what throttling took.",
        "Tencent throttles"),
    MetricRow("permits_owned", "gauge", "permits", LANE, "The share of this replica: its partitions' slices of the quota.", "a rebalance"),
    MetricRow("throttle_factor", "gauge", "share", LANE, "Permits granted of those owned: 1 unless Tencent throttles.", "Tencent throttles"),
    MetricRow("limited_by", "gauge", "0 or 1", (*LANE, "by"), f"What keeps waiting members from going; 1 at one of: {', '.join(LIMITED_BY)}.",
        "members wait, or go again"),
    MetricRow("work_seconds", "gauge", "seconds", LANE, "How long the waiting members take at the permitted rate and the present batch size.",
        "members wait"),
    # endpoints and apps
    MetricRow("breaker_open", "gauge", "0 or 1", LANE, "Whether only probes go, because the endpoint does not answer.", "an outage"),
    MetricRow("breaker_openings", "counter", "times", LANE, "How often that happened.", "an outage begins"),
    MetricRow("halted", "gauge", "0 or 1", LANE, "Whether the configuration is refused (endpoint `*`: of the whole app). /readyz says why.",
        "a wrong key, region, admin or plan"),
    MetricRow("signature_age_seconds", "gauge", "seconds", ("app",), "Age of the signature in use; it is renewed at half of its life.",
        "time, and renewals"),
    MetricRow("signature_expires_seconds", "gauge", "seconds", ("app",), "Seconds until it would expire.", "time, and renewals"),
    # what was done already
    MetricRow("dedupe_hits", "counter", "members", ("kind",), "Work that was not sent again: a record redelivered (record), an id or effect "
        "that was applied before, members that ride on another's call (coalesced), or that a later command undid (superseded).",
        "repeated or contrary commands"),
    MetricRow("known_ids", "gauge", "commands", ("partition",), "Command ids that are known as done.", "outcomes; the window's end"),
    MetricRow("known_effects", "gauge", "members", (), "Effects that are known as just applied.", "outcomes; the window's end"),
    # partitions
    MetricRow("open_commands", "gauge", "commands", ("partition",), "Commands admitted and not yet published.", "a command is admitted or ends"),
    MetricRow("gap_offsets", "gauge", "offsets", ("partition",), "How far work has gone beyond the oldest open command. At kafka.max_gap the "
        "partition waits for it.", "one command takes much longer than the others"),
    MetricRow("backlog_records", "gauge", "records", ("partition",), "Records fetched and not admitted.", "the gap or the memory is full"),
    MetricRow("lag_records", "gauge", "records", ("partition",), "Records in Kafka behind the committed offset.", "commands come faster than they go"),
    MetricRow("rebalances", "counter", "times", ("kind",), "Partitions assigned, revoked, or lost without a handover.", "a replica comes or goes"),
    MetricRow("handover_seconds", "histogram", "seconds", (), "How long a handover took.", "partitions are revoked", SECONDS),
    MetricRow("restore_seconds", "histogram", "seconds", (), "How long a partition's restore of known ids took.", "partitions are assigned",
        LONG_SECONDS),
    MetricRow("given_up", "counter", "commands", (), "Begun commands that a drain or handover left to the next owner.",
        "a drain or handover runs out of time"),
    MetricRow("offsets_out_of_range", "counter", "times", (), "The committed offset was no longer in Kafka: commands were lost to retention.",
        "retention shorter than an outage"),
    MetricRow("foreign_metadata", "counter", "partitions", (), "Commits whose metadata was not this worker's, or of another place: nothing of it "
        "was believed.", "something else commits for the group"),
    MetricRow("partitions_in_doubt", "gauge", "partitions", (), "Partitions whose committed offset is gone, and of which the outcomes do not tell "
        "where to go on: a person decides. /readyz says how.", "a commit expires or is deleted"),
    # publishing
    MetricRow("transactions", "counter", "transactions", ("result",), "Kafka transactions, committed or aborted.", "outcomes are published"),
    MetricRow("transaction_seconds", "histogram", "seconds", (), "How long a transaction took.", "outcomes are published", SECONDS),
    MetricRow("transaction_records", "histogram", "records", (), "Outcomes and dead letters in a committed transaction.",
        "outcomes are published", COUNTS),
    MetricRow("kafka_refused", "gauge", "0 or 1", ("kind",), "What Kafka refuses until somebody changes something: 1 while it lasts (`sign_in`, "
        "`topic_denied`, `topic_missing` …). /readyz says what to do.", "a right, topic, password or clock is changed"),
    MetricRow("unpublished_commands", "gauge", "commands", (), "Commands that ended and are not yet published.", "publishing is slow or fails"),
    # memory
    MetricRow("memory_bytes", "gauge", "bytes", ("part",), f"Memory that each part of the budget takes: {', '.join(PARTS)}.",
        "commands come and end"),
    MetricRow("memory_budget_bytes", "gauge", "bytes", ("part",), "What each may take. Full: commands wait in Kafka, ids and effects are forgotten.",
        "memory.budget_mib"),
    MetricRow("forgotten", "counter", "records", ("part",), "Ids and effects that were forgotten before their time, for want of memory: "
        "repeats of them call once more.", "the part is full"),
    # the process
    MetricRow("ready", "gauge", "0 or 1", (), "Whether /readyz answers 200.", "start, halts, drain"),
    MetricRow("pulse_age_seconds", "gauge", "seconds", (), "Since the loop last went round; /livez judges by it.", "the loop is blocked"),
    MetricRow("log_lines_dropped", "counter", "lines", (), "Lines of the log that were lost: nobody read them, or they could not be written.",
        "a reader of the log that stands still, a full disk"),
    MetricRow("build_info", "gauge", "1", ("version", "python"), "What runs.", "a release"),
)  # fmt: skip


def page() -> str:
    """The text of config/metrics.md."""
    lines = [
        "# Metrics",
        "",
        "Made from `worker/runtime/metric_table.py`; change that, then `make docs`.",
        "",
        "`/metrics` on the port of `server.port` (9000). Labels are closed sets: no user, no room, no command. The metrics of the",
        "process itself (`process_resident_memory_bytes`, `process_cpu_seconds_total` …) and of Python are there as well.",
        "",
        "| metric | type | unit | labels | what it tells | what moves it |",
        "|---|---|---|---|---|---|",
    ]
    for row in ROWS:
        labels = ", ".join(f"`{label}`" for label in row.labels) or "none"
        lines.append(
            f"| `{row.name}` | {row.type} | {row.unit} | {labels} | {row.meaning} | {row.moved_by} |"
        )
    return "\n".join(lines) + "\n"
