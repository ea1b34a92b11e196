# ruff: noqa: INP001 - scripts of this folder, no package
# The panels of the Grafana dashboard: rows of a table, each with the question that it answers.
#
# `@name{…}` in an expression is the worker's metric of that name, `@@name` one of its process; make_dashboard.py writes them
# out for the release that the dashboard's variables choose, lays the panels out, and makes the JSON. No layout is here.

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Panel:
    """
    One panel.

    Attributes:
        question: What it answers; shown as its description.
        series: Its expressions, each with the text of its legend.
        kind: Grafana's panel type.
        unit: Grafana's unit of the values.
        bad: From this value on it is red.
        words: What values mean, where they are no amounts.

    """

    title: str
    question: str
    series: tuple[tuple[str, str], ...]
    kind: str = "timeseries"
    unit: str = "short"
    width: int = 8
    height: int = 7
    bad: float | None = None
    words: tuple[tuple[int, str, str], ...] = ()


@dataclass(frozen=True)
class Row:
    """Panels below one heading."""

    title: str
    panels: tuple[Panel, ...]


LEGEND: Final = "{{app}} {{endpoint}}"

_QUANTILES: Final = (0.5, 0.95, 0.99)


def _quantiles(metric: str, by: str = "") -> tuple[tuple[str, str], ...]:
    labels, legend = (f"le, {by}", f" {{{{{by}}}}}") if by else ("le", "")
    return tuple(
        (
            f"histogram_quantile({share}, sum by ({labels}) (rate(@{metric}_bucket[$__rate_interval])))",
            f"p{share * 100:g}{legend}",
        )
        for share in _QUANTILES
    )


def _increase(counter: str) -> str:
    """
    Return the increase of a rare counter, with what its series begins with: its first event may be there before it is first scraped.

    A series that is there again after a scrape was missed does not begin: its pod was seen before, and is older than five minutes.
    """
    new = f"(@{counter} unless @{counter} offset $__rate_interval)"
    seen = "@build_info offset $__rate_interval or time() - @@process_start_time_seconds < 300"
    return (
        f"({new} and on (namespace, job, pod, instance) ({seen})) or increase(@{counter}[$__rate_interval])"
    )


def _mean(metric: str, by: str) -> str:
    total, count = (f"sum by ({by}) (rate(@{metric}_{part}[$__rate_interval]))" for part in ("sum", "count"))
    return f"{total} / {count}"


ROWS: Final = (
    Row(
        "Is it working? What limits it? What fails?",
        (
            Panel(
                "Ready",
                "How many workers are ready, of those that run? /readyz of the others says why.",
                (("sum(@ready)", "ready"), ("count(@ready)", "running")),
                kind="stat",
                width=3,
                height=5,
            ),
            Panel(
                "Outcomes",
                "Is it working: how many commands end each second?",
                (("sum(rate(@commands_total[$__rate_interval]))", "outcomes"),),
                kind="stat",
                unit="cps",
                width=3,
                height=5,
            ),
            Panel(
                "Lag",
                "Do commands wait in Kafka? 0 is well; a steady number is no harm; a rising one is.",
                (("sum(@lag_records)", "records"),),
                kind="stat",
                width=3,
                height=5,
            ),
            Panel(
                "Oldest waiting",
                "How long has a user waited for a call? Above a minute an alert begins.",
                (("max(@oldest_waiting_seconds)", "oldest"),),
                kind="stat",
                unit="s",
                width=3,
                height=5,
                bad=60,
            ),
            Panel(
                "Done when?",
                "How long does the waiting work take at the permitted rate? More replicas do not shorten it.",
                (("max(@work_seconds)", "work"),),
                kind="stat",
                unit="s",
                width=3,
                height=5,
            ),
            Panel(
                "What limits",
                "What keeps waiting users from going? quota: Tencent's limit, more replicas do not help. lent: the same, until what was "
                "lent comes back. throttle: others use the app. breaker: the endpoint is down. halt: wrong configuration. target: one "
                "room. pause: an operator or a guard. publishing: Kafka.",
                (('max by (by) (@limited_by{by!="nothing"})', "{{by}}"),),
                kind="state-timeline",
                width=9,
                height=5,
                words=((0, "no", "transparent"), (1, "limits", "orange")),
            ),
            Panel(
                "Halted",
                "Does Tencent refuse the configuration of an app? Nothing is lost; /readyz says what to fix.",
                (("sum(@halted) or vector(0)", "halted"),),
                kind="stat",
                width=3,
                height=4,
                bad=1,
            ),
            Panel(
                "Breakers open",
                "Is an endpoint down? Nothing is failed for it.",
                (("sum(@breaker_open)", "open"),),
                kind="stat",
                width=3,
                height=4,
                bad=1,
            ),
            Panel(
                "Not succeeded",
                "Which share of commands ended as failed, rejected or expired?",
                (
                    (
                        """
                        sum(rate(@commands_total{status=~"failed|rejected|expired"}[$__rate_interval]))
                        / sum(rate(@commands_total[$__rate_interval]))
                        """,
                        "share",
                    ),
                ),
                kind="stat",
                unit="percentunit",
                width=3,
                height=4,
                bad=0.05,
            ),
            Panel(
                "Throttled",
                "Does Tencent refuse requests for the quota? The worker keeps it: then others use the app as well.",
                (('sum(rate(@tries_total{verdict="throttle"}[$__rate_interval]))', "requests"),),
                kind="stat",
                unit="reqps",
                width=3,
                height=4,
                bad=0.1,
            ),
            Panel(
                "Unpublished",
                "Do results wait for Kafka? Nearly none is well.",
                (("sum(@unpublished_commands)", "commands"),),
                kind="stat",
                width=3,
                height=4,
                bad=5000,
            ),
            Panel(
                "Dead letters by reason",
                "What fails, and why? The reason is the header x-error-code of the dead letter.",
                ((f"sum by (code) ({_increase('dead_letters_total')})", "{{code}}"),),
                width=9,
                height=4,
            ),
        ),
    ),
    Row(
        "Commands",
        (
            Panel(
                "Read and ended",
                "Does as much end as comes in?",
                (
                    ("sum(rate(@records_total[$__rate_interval]))", "read"),
                    ("sum by (status) (rate(@commands_total[$__rate_interval]))", "{{status}}"),
                ),
                unit="cps",
            ),
            Panel(
                "By action",
                "What is asked for?",
                (("sum by (action) (rate(@commands_total[$__rate_interval]))", "{{action}}"),),
                unit="cps",
            ),
            Panel(
                "Users by result and code",
                "What did Tencent say of the users? 0 is success.",
                (("sum by (result, code) (rate(@members_total[$__rate_interval]))", "{{result}} {{code}}"),),
                unit="cps",
            ),
            Panel(
                "Seconds from reading to the end",
                "How fast is a command?",
                _quantiles("command_seconds"),
                unit="s",
            ),
            Panel(
                "Work that was not repeated",
                "How much was done already? record: redelivered; command_id, effect: done before; coalesced, superseded: saved "
                "while waiting.",
                (("sum by (kind) (rate(@dedupe_hits_total[$__rate_interval]))", "{{kind}}"),),
                unit="cps",
            ),
            Panel(
                "Known as done",
                "How much is remembered?",
                (("sum(@known_ids)", "command ids"), ("sum(@known_effects)", "effects")),
            ),
            Panel(
                "Misplaced records",
                "Does a producer give up the order of its commands? no_key, key_not_target, two_partitions; partitioner: harmless only if "
                "every producer places by the same hash.",
                (("sum by (reason) (rate(@misplaced_records_total[$__rate_interval]))", "{{reason}}"),),
                unit="cps",
            ),
        ),
    ),
    Row(
        "Orders of operators and guards",
        (
            Panel(
                "Orders in force",
                "Has somebody, or a guard, stopped something? `moderation-worker control` says what, and why.",
                (("max by (state, ordered_by) (@controls) > 0", "{{state}}, {{ordered_by}}"),),
            ),
            Panel(
                "Commands that orders hold",
                "How many open commands wait for a resume, or are about to be cancelled? Others of a paused scope are lag.",
                (("sum by (state) (@control_held_commands)", "{{state}}"),),
            ),
            Panel(
                "Oldest pause",
                "Has a pause been forgotten?",
                (("max(@control_oldest_pause_seconds)", "age"),),
                unit="s",
                width=4,
            ),
            Panel(
                "Unreadable orders",
                "Does something else write to the control topic? Such a record changes nothing.",
                ((f"sum({_increase('control_unreadable_records_total')})", "records"),),
                width=4,
            ),
        ),
    ),
    Row(
        "Calls",
        (
            Panel(
                "Requests by verdict",
                "What does Tencent answer?",
                (("sum by (verdict) (rate(@tries_total[$__rate_interval]))", "{{verdict}}"),),
                unit="reqps",
            ),
            Panel(
                "Requests by endpoint",
                "How near is each endpoint to its quota (200 a second)?",
                (("sum by (app, endpoint) (rate(@tries_total[$__rate_interval]))", LEGEND),),
                unit="reqps",
            ),
            Panel(
                "Users a call",
                "How full are the calls? Under load near 20; reasons that differ hold it down (batching.reasons).",
                ((_mean("batch_members", "endpoint"), "{{endpoint}}"),),
            ),
            Panel("Seconds of a request", "How fast is Tencent?", _quantiles("try_seconds"), unit="s"),
            Panel("Seconds of a call", "And with retries and waits?", _quantiles("call_seconds"), unit="s"),
            Panel(
                "Calls by their end",
                "How do calls end?",
                (("sum by (verdict) (rate(@calls_total[$__rate_interval]))", "{{verdict}}"),),
                unit="reqps",
            ),
            Panel(
                "Retries, splits, recalls",
                "What costs requests? A split searches the bad user of a refused batch.",
                (
                    ("sum(rate(@retries_total[$__rate_interval]))", "retries"),
                    ("sum(rate(@splits_total[$__rate_interval]))", "splits"),
                    ("sum(rate(@inferred_total[$__rate_interval]))", "inferred"),
                    ("sum(rate(@recalled_total[$__rate_interval]))", "recalled"),
                ),
                unit="reqps",
            ),
            Panel(
                "Calls open",
                "How many calls are under way?",
                (("sum by (endpoint) (@open_calls)", "{{endpoint}}"),),
            ),
            Panel(
                "Breaker openings",
                "Which endpoint comes and goes?",
                (
                    (
                        "sum by (endpoint) (increase(@breaker_openings_total[$__rate_interval]))",
                        "{{endpoint}}",
                    ),
                ),
            ),
        ),
    ),
    Row(
        "The quota",
        (
            Panel(
                "Permits",
                "Is the quota used? Owned by all replicas together: the limit, 200.",
                (
                    ("sum by (app, endpoint) (@permits_used)", f"used {LEGEND}"),
                    ("sum by (app, endpoint) (@permits_granted)", f"granted {LEGEND}"),
                    ("sum by (app, endpoint) (@permits_owned)", f"owned {LEGEND}"),
                ),
                width=12,
            ),
            Panel(
                "Throttle factor",
                "How much of the quota does Tencent leave us? 1 is all.",
                (("min by (app, endpoint) (@throttle_factor)", LEGEND),),
                unit="percentunit",
                width=6,
            ),
            Panel(
                "Users waiting",
                "Which queue is long?",
                (("sum by (app, endpoint) (@waiting_members)", LEGEND),),
                width=6,
            ),
            Panel(
                "Lent and borrowed",
                "Do idle replicas help the one that waits? Lent and borrowed are about the same; unread: another build writes to the quota topic.",
                (
                    ("sum by (app, endpoint) (@permits_lent)", f"lent {LEGEND}"),
                    ("sum by (app, endpoint) (@permits_borrowed)", f"borrowed {LEGEND}"),
                    ("sum(increase(@strange_quota_messages_total[$__rate_interval]))", "unread"),
                ),
                width=12,
            ),
            Panel(
                "Seconds of work waiting",
                "When is the queue empty at the permitted rate?",
                (("max by (app, endpoint) (@work_seconds)", LEGEND),),
                unit="s",
                width=6,
            ),
            Panel(
                "Oldest waiting",
                "Which endpoint is late?",
                (("max by (app, endpoint) (@oldest_waiting_seconds)", LEGEND),),
                unit="s",
                width=6,
            ),
        ),
    ),
    Row(
        "Partitions",
        (
            Panel(
                "Lag", "Which partition is behind?", (("max by (partition) (@lag_records)", "{{partition}}"),)
            ),
            Panel(
                "Gap",
                "Which partition waits for one old command? At kafka.max_gap (20,000) it stands still.",
                (("max by (partition) (@gap_offsets)", "{{partition}}"),),
            ),
            Panel(
                "Open and unadmitted",
                "What is in memory?",
                (
                    ("sum by (partition) (@open_commands)", "open {{partition}}"),
                    ("sum by (partition) (@backlog_records)", "unadmitted {{partition}}"),
                ),
            ),
            Panel(
                "Rebalances",
                "Do replicas come and go? lost means without a handover.",
                ((f"sum by (kind) ({_increase('rebalances_total')})", "{{kind}}"),),
            ),
            Panel(
                "Seconds of a handover",
                "What does a rebalance cost?",
                _quantiles("handover_seconds"),
                unit="s",
            ),
            Panel(
                "Seconds of a restore",
                "How long until a new owner begins?",
                _quantiles("restore_seconds"),
                unit="s",
            ),
            Panel(
                "Left to the next owner",
                "Is the drain too short?",
                (("sum(increase(@given_up_total[$__rate_interval]))", "commands"),),
            ),
            Panel(
                "Offsets out of range",
                "Were commands deleted before they were read?",
                ((f"sum({_increase('offsets_out_of_range_total')})", "times"),),
            ),
            Panel(
                "Commits that are not ours",
                "Does something else commit for the group, or are commits lost?",
                (
                    (f"sum({_increase('foreign_metadata_total')})", "foreign"),
                    ("sum(@partitions_in_doubt)", "lost, a person decides"),
                ),
            ),
        ),
    ),
    Row(
        "Publishing",
        (
            Panel(
                "Refused by Kafka",
                "What does Kafka refuse until somebody acts? /readyz has the remedy.",
                (("max by (kind) (@kafka_refused)", "{{kind}}"),),
            ),
            Panel(
                "Transactions",
                "Do outcomes get out? A few aborts at a rebalance are normal.",
                (("sum by (result) (rate(@transactions_total[$__rate_interval]))", "{{result}}"),),
                unit="ops",
            ),
            Panel(
                "Seconds of a transaction", "How fast is Kafka?", _quantiles("transaction_seconds"), unit="s"
            ),
            Panel(
                "Records of a transaction", "How much goes out at once?", _quantiles("transaction_records")
            ),
        ),
    ),
    Row(
        "Processes",
        (
            Panel(
                "Memory",
                "Is it bounded?",
                (("@@process_resident_memory_bytes", "{{pod}}"),),
                unit="bytes",
                width=6,
            ),
            Panel(
                "Memory budget",
                "Is a part of it full? Then commands wait, or ids and effects are forgotten.",
                (
                    (
                        "max by (part) (@memory_bytes / @memory_budget_bytes)",
                        "{{part}}",
                    ),
                ),
                unit="percentunit",
                width=6,
            ),
            Panel(
                "Forgotten for want of memory",
                "Are ids and effects forgotten before their time? Then repeats of them call Tencent once more: give memory.budget_mib more.",
                (("sum by (part) (increase(@forgotten_total[$__rate_interval]))", "{{part}}"),),
                width=6,
            ),
            Panel(
                "Processor",
                "Is it the limit? One process uses one core and a little.",
                (("rate(@@process_cpu_seconds_total[$__rate_interval])", "{{pod}}"),),
                width=6,
            ),
            Panel(
                "Pulse",
                "Does the loop go round? Above 10 s the pod is restarted.",
                (("max by (pod) (@pulse_age_seconds)", "{{pod}}"),),
                unit="s",
                width=6,
            ),
            Panel(
                "Log lines lost",
                "Does nobody read the log, or is its disk full?",
                (("sum by (pod) (increase(@log_lines_dropped_total[$__rate_interval]))", "{{pod}}"),),
                width=6,
            ),
            Panel(
                "Signatures",
                "Are they renewed? Each at half of its life.",
                (
                    ("max by (app) (@signature_age_seconds)", "age {{app}}"),
                    ("min by (app) (@signature_expires_seconds)", "left {{app}}"),
                ),
                unit="s",
                width=12,
            ),
            Panel(
                "Versions",
                "What runs?",
                (("count by (version, python) (@build_info)", "{{version}} on Python {{python}}"),),
                width=12,
            ),
        ),
    ),
)
