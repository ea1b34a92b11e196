# The table of metrics: name, type, labels, what each means, and what moves it. There are no others.
#
# Registration (metrics.py), config/metrics.md and the tests of dashboards and alerts are made from these rows.
# Label sets are closed: an app, endpoint, action, code or partition; never a user, room or command.
# Not here: what moves a metric in the code (metrics.py).

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from worker.domain.contract.actions import MEMBERS_PER_CALL
from worker.domain.contract.control_records import OrderState
from worker.domain.engine_snapshot import LIMITED_BY
from worker.domain.memory_budget import PARTS

PREFIX: Final = "moderation_worker_"

ORDERED_BY: Final = ("operator", "guard", "settings")
Rebalance = Literal["assigned", "revoked", "lost"]

SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Buckets for one request: Tencent answers in tens of milliseconds, and 10 s is the default timeout."""
LONG_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""Buckets for a command: from an idle worker to a backlog of half an hour."""
FULL_CALL: Final = float(max(MEMBERS_PER_CALL.values()))
SIZES: Final = (1.0, 2.0, 4.0, 8.0, 12.0, 16.0, FULL_CALL - 1, FULL_CALL)
"""Buckets for members of a call: Tencent allows 20, and a backlog reaches 19."""
COUNTS: Final = (1.0, 10.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0)

PER_ENDPOINT: Final = ("app", "endpoint")
Type = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class MetricRow:
    """
    One metric.

    Attributes:
        key: The name without the prefix (and, for a counter, without ``_total``).
        unit: What the value counts.
        meaning: What the value means.
        moved_by: What happens when it changes.
        buckets: The upper bounds of a histogram.

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
        """The name in Prometheus; for a histogram, without ``_bucket``, ``_sum`` and ``_count``."""
        return f"{PREFIX}{self.key}{'_total' if self.type == 'counter' else ''}"


ROWS: Final[tuple[MetricRow, ...]] = (
    # commands
    MetricRow("records", "counter", "records", (), "Records read from the command topic.", "a record arrives"),
    MetricRow("misplaced_records", "counter", "records", ("reason",), "Records in the wrong place, for which order and deduplication are not "
        "promised: no_key, key_not_target, two_partitions (the target's last one was on another), partitioner (placed by another hash than "
        "murmur2).", "a producer's keys or its partitioner are wrong"),
    MetricRow("commands", "counter", "commands", ("action", "status"), "Commands whose outcome was published.", "an outcome is published"),
    MetricRow("members", "counter", "members", ("action", "result", "code"), "Users of those commands, by result and Tencent's error code ("
        "0: none, other: an unlisted one).", "an outcome is published"),
    MetricRow("command_seconds", "histogram", "seconds", ("action",), "From reading a command to its result, without publishing.",
        "an outcome is published", LONG_SECONDS),
    MetricRow("dead_letters", "counter", "records", ("code",), "Records published to the dead-letter topic, by reason.",
        "a command is rejected, fails or is cancelled"),
    # calls
    MetricRow("calls", "counter", "calls", (*PER_ENDPOINT, "verdict"), "Calls that ended, by their last verdict.", "a call ends"),
    MetricRow("call_seconds", "histogram", "seconds", ("endpoint",), "From a call's first request to its end, retries and waits included.",
        "a call ends", SECONDS),
    MetricRow("batch_members", "histogram", "members", ("endpoint",), "Members that shared a call.", "a call starts", SIZES),
    MetricRow("tries", "counter", "requests", (*PER_ENDPOINT, "verdict"), "HTTP requests, by verdict. `throttle` means that Tencent's quota was "
        "exceeded: somebody else uses the app too.", "a request ends"),
    MetricRow("try_seconds", "histogram", "seconds", ("endpoint",), "Duration of one HTTP request, from sending to answer.", "a request ends", SECONDS),
    MetricRow("retries", "counter", "requests", PER_ENDPOINT, "HTTP requests that were not the first of their call.", "a call is retried"),
    MetricRow("splits", "counter", "searches", (), "Searches for the bad member of a refused batch.", "Tencent refuses a batch for a member"),
    MetricRow("inferred", "counter", "members", (), "Members judged by elimination: the only one left in a search that can be at fault.",
        "a search ends"),
    MetricRow("recalled", "counter", "calls", (), "Waiting calls that were cancelled.", "a breaker opens or a halt begins"),
    # the quota
    MetricRow("waiting_members", "gauge", "members", PER_ENDPOINT, "Members that wait for a permit.", "commands arrive faster than they are carried out"),
    MetricRow("oldest_waiting_seconds", "gauge", "seconds", PER_ENDPOINT, "The longest time that a waiting member has waited.", "members wait"),
    MetricRow("open_calls", "gauge", "calls", PER_ENDPOINT, "Calls in flight, or between two attempts.", "a call starts or ends"),
    MetricRow("permits_used", "gauge", "permits", PER_ENDPOINT, "Permits taken: requests in flight, or answered less than a second ago.",
        "a request is sent"),
    MetricRow("permits_granted", "gauge", "permits", PER_ENDPOINT, "Permits that may be used: those owned and not lent, and those borrowed, reduced while Tencent throttles.",
        "Tencent throttles"),
    MetricRow("permits_owned", "gauge", "permits", PER_ENDPOINT, "The share of this replica: its partitions' slices of the quota.", "a rebalance"),
    MetricRow("permits_lent", "gauge", "permits", PER_ENDPOINT, "Of the permits owned, those that other replicas may use now.", "another replica waits for permits"),
    MetricRow("permits_borrowed", "gauge", "permits", PER_ENDPOINT, "Permits of other replicas that this one may use now.", "members wait for permits"),
    MetricRow("throttle_factor", "gauge", "share", PER_ENDPOINT, "Share of the permits that is granted: 1 unless Tencent throttles.", "Tencent throttles"),
    MetricRow("limited_by", "gauge", "0 or 1", (*PER_ENDPOINT, "by"), f"What makes members wait; 1 at one of: {', '.join(LIMITED_BY)}.",
        "members wait, or no longer wait"),
    MetricRow("work_seconds", "gauge", "seconds", PER_ENDPOINT, "How long the waiting members take at the permitted rate and the current batch size.",
        "members wait"),
    # endpoints and apps
    MetricRow("breaker_open", "gauge", "0 or 1", PER_ENDPOINT, "Whether only probes are sent, because the endpoint does not answer.", "an outage"),
    MetricRow("breaker_openings", "counter", "times", PER_ENDPOINT, "How often the breaker opened.", "an outage begins"),
    MetricRow("halted", "gauge", "0 or 1", PER_ENDPOINT, "Whether Tencent refuses the configuration (endpoint `*`: of the whole app). /readyz says why.",
        "a wrong key, region, admin or plan"),
    MetricRow("signature_age_seconds", "gauge", "seconds", ("app",), "Age of the current signature; it is renewed at half of its life.",
        "time, and renewals"),
    MetricRow("signature_expires_seconds", "gauge", "seconds", ("app",), "Time until the current signature expires.", "time, and renewals"),
    # orders of operators and guards
    MetricRow("controls", "gauge", "orders", ("state", "ordered_by"), f"Orders in force, by state ({', '.join(OrderState)}) and by who gave them ({', '.join(ORDERED_BY)}).",
        "an order is given or ends"),
    MetricRow("control_held_commands", "gauge", "commands", ("state",), "Open commands for which an order holds. Others of a paused scope wait in Kafka "
        "unread: see lag_records.", "an order is given or ends"),
    MetricRow("control_oldest_pause_seconds", "gauge", "seconds", (), "Time since the oldest pause in force was ordered; 0 if none is.", "a pause"),
    MetricRow("control_unreadable_records", "counter", "records", (), "Records of the control topic that change nothing, because they cannot be read.",
        "something else writes to the control topic"),
    # what was done already
    MetricRow("dedupe_hits", "counter", "members", ("kind",), "Members that needed no call: a redelivered record (record), an id or effect that "
        "was applied before (command_id, effect), the same effect as another member's call (coalesced), or one that a later command undoes "
        "(superseded).", "repeated or contrary commands"),
    MetricRow("known_ids", "gauge", "commands", ("partition",), "Command ids remembered as done.", "outcomes; the window's end"),
    MetricRow("known_effects", "gauge", "members", (), "Effects remembered as just applied.", "outcomes; the window's end"),
    # partitions
    MetricRow("open_commands", "gauge", "commands", ("partition",), "Commands admitted and not yet published.", "a command is admitted or ends"),
    MetricRow("gap_offsets", "gauge", "offsets", ("partition",), "How far the newest received record is ahead of the oldest open command. At "
        "kafka.max_gap the partition waits for that command.", "one command takes much longer than the others"),
    MetricRow("backlog_records", "gauge", "records", ("partition",), "Records fetched and not admitted yet.", "the gap or the memory is full"),
    MetricRow("lag_records", "gauge", "records", ("partition",), "Records in Kafka after the committed offset.", "commands arrive faster than "
        "they are carried out"),
    MetricRow("rebalances", "counter", "times", ("kind",), "Partitions assigned, revoked, or lost without a handover.", "a replica joins or leaves"),
    MetricRow("handover_seconds", "histogram", "seconds", (), "Duration of a handover.", "partitions are revoked", SECONDS),
    MetricRow("restore_seconds", "histogram", "seconds", (), "Duration of restoring what was done on a partition.", "partitions are assigned",
        LONG_SECONDS),
    MetricRow("given_up", "counter", "commands", (), "Started commands that a drain or handover left to the next owner.",
        "a drain or handover while the endpoint is down or halted"),
    MetricRow("offsets_out_of_range", "counter", "times", (), "The committed offset was no longer in Kafka: retention deleted commands.",
        "retention is shorter than an outage"),
    MetricRow("foreign_metadata", "counter", "partitions", (), "Commits with metadata that this worker did not write for this place: it is "
        "ignored.", "something else commits for the group"),
    MetricRow("strange_quota_messages", "counter", "records", (), "Records of the quota topic that this build cannot read.", "another build, or something else, writes to the quota topic"),
    MetricRow("partitions_in_doubt", "gauge", "partitions", (), "Partitions whose committed offset is gone while the outcomes do not show where to "
        "resume: a person decides. /readyz says how.", "a commit expires or is deleted"),
    # publishing
    MetricRow("transactions", "counter", "transactions", ("result",), "Kafka transactions, committed or aborted.", "outcomes are published"),
    MetricRow("transaction_seconds", "histogram", "seconds", (), "Duration of a transaction.", "outcomes are published", SECONDS),
    MetricRow("transaction_records", "histogram", "records", (), "Outcomes and dead letters in a committed transaction.",
        "outcomes are published", COUNTS),
    MetricRow("kafka_refused", "gauge", "0 or 1", ("kind",), "What Kafka refuses until somebody changes something: 1 while it lasts (`sign_in`, "
        "`topic_denied`, `topic_missing` …). /readyz says what to do.", "a permission, topic, password or clock is changed"),
    MetricRow("unpublished_commands", "gauge", "commands", (), "Commands that have a result and are not published yet.", "publishing is slow or fails"),
    # memory
    MetricRow("memory_bytes", "gauge", "bytes", ("part",), f"Memory in use by each part of the budget: {', '.join(PARTS)}.",
        "commands begin and end"),
    MetricRow("memory_budget_bytes", "gauge", "bytes", ("part",), "The most that each part may take. When full, commands wait in Kafka, ids and effects are forgotten.",
        "memory.budget_mib"),
    MetricRow("forgotten", "counter", "records", ("part",), "Ids and effects forgotten early for lack of memory: repeats of them are carried out "
        "again.", "the part is full"),
    # the process
    MetricRow("ready", "gauge", "0 or 1", (), "Whether /readyz answers 200.", "start, halts, drain"),
    MetricRow("pulse_age_seconds", "gauge", "seconds", (), "Time since the loop last ran; /livez depends on it.", "the loop is blocked"),
    MetricRow("log_lines_dropped", "counter", "lines", (), "Log lines lost because nobody read the log, or because it could not be written.",
        "a blocked reader of the log, a full disk"),
    MetricRow("build_info", "gauge", "1", ("version", "python"), "The running version.", "a release"),
)  # fmt: skip
