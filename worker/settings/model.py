# Every setting: its name, type, default, and the reason for the default (the two large sections: kafka_section.py,
# tencent_section.py).
#
# config/worker.example.yaml and config/settings.md are generated from these models (config/make_settings.py). The names are an
# interface: other programs and charts use them. No check of two settings together is here (cross_checks.py).

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import Field
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from worker.domain.memory_budget import BASE_MIB, BUDGET_MIB, PARTS
from worker.errors import SignatureError
from worker.settings import types
from worker.settings.core_defaults import CORE
from worker.settings.guard_settings import FOLLOWS, Guards
from worker.settings.kafka_section import KafkaSettings, secret_in, secrets_in_option
from worker.settings.section import SettingsSection
from worker.settings.tencent_section import TencentSettings

if TYPE_CHECKING:
    from collections.abc import Mapping


_PARTS: Final = (
    "for waiting and open commands",
    "for known ids",
    "for effects that need no second call",
    "for unpublished outcomes and dead letters",
)


class QuotaSettings(SettingsSection):
    """Tencent's quota, which all replicas share without talking to each other."""

    calls_per_second: Annotated[types.Whole, Field(ge=1, le=100_000)] = Field(
        default=CORE.default_calls_per_second,
        description="Requests in any rolling second for each endpoint and app, over all replicas (the default is Tencent's). Lower "
        "it by what other programs use. It must be at least the number of command partitions.",
    )
    per_endpoint: types.PerEndpoint = Field(
        default_factory=dict,
        description="The same for single endpoints, named <service>/<command>, if Tencent has raised their quota.",
    )
    window_from: types.WindowFrom = Field(
        default="answer",
        description="When the second of a permit begins: at the answer (exact, however late that is) or when the request is "
        "sent (approximate; for distant regions, where waiting for answers would cost throughput).",
    )
    window_margin_ms: Annotated[types.Whole, Field(ge=0, le=1000)] = Field(
        default=50,
        description="Milliseconds added to that second with `window_from: send`, for the network's jitter.",
    )


class BatchingSettings(SettingsSection):
    """How members share calls."""

    max_wait_seconds: Annotated[types.Number, Field(gt=0, le=60)] = Field(
        default=CORE.overdue_after,
        description="From this age on, in seconds, waiting members are sent oldest first instead of fullest batch first: the delay "
        "that a busy room may cause a quiet one. Nothing waits for it while permits are free.",
    )
    urgent_share: Annotated[types.Number, Field(gt=0, lt=1)] = Field(
        default=CORE.urgent_share,
        description="The most of the calls that commands with `priority: urgent` may have while normal ones wait, so that neither starves.",
    )
    reasons: types.Reasons = Field(
        default="exact",
        description="Whether commands with different reasons may share a call. `any` sends the first reason (each outcome keeps "
        "its own); use it if reasons contain a score, or each batch has one member.",
    )


class DedupeSettings(SettingsSection):
    """What counts as done already."""

    window_seconds: Annotated[types.Number, Field(gt=0, le=604_800)] = Field(
        default=CORE.dedupe_window,
        description="Seconds for which a command_id is remembered after its outcome. An hour covers a detector's own retries; the "
        "outcome topic's retention must be longer.",
    )
    restore_records: Annotated[types.Whole, Field(ge=1, le=100_000)] = Field(
        default=CORE.restore_records,
        description="How many ids a partition remembers, and so the most outcomes that a new owner reads back before it begins. More "
        "costs time at each rebalance, and must fit into its share of memory.budget_mib (some 330 bytes each).",
    )
    effect_window_seconds: Annotated[types.Number, Field(ge=0, le=3600)] = Field(
        default=CORE.effect_window,
        description="Seconds for which the same effect on the same member needs no second call: several detectors report one user "
        "within seconds. At most a tenth of its duration, if it has one. 0 turns it off.",
    )
    effects: types.Effects = Field(
        default="ours",
        description="Which effects these are. ours: only those whose state this worker alone changes, so no update with a name_card "
        "(users set their own) and no unban whose ban does not come through here. all: these too. Commands with the same effect "
        "that wait at the same time always share one call.",
    )
    supersede: bool = Field(
        default=CORE.supersede,
        description="Whether a command that undoes a waiting one supersedes it, so that the waiting one is not sent at all.",
    )


class MemorySettings(SettingsSection):
    """What may be kept in memory. The rest waits in Kafka or is forgotten, oldest first; nothing grows without bound."""

    budget_mib: Annotated[types.Whole, Field(ge=16, le=65_536)] = Field(
        default=BUDGET_MIB,
        description="MiB for everything that is kept: "
        + ", ".join(
            f"{round(share * 100)} % {what}" for share, what in zip(PARTS.values(), _PARTS, strict=True)
        )
        + f". The process takes up to {BASE_MIB} MiB more; a pod's limit must hold both.",
    )


class HttpSettings(SettingsSection):
    """The connections to Tencent."""

    timeout_seconds: Annotated[types.Number, Field(gt=3, le=60)] = Field(
        default=10.0,
        description="Seconds for one request in total. Tencent's own budget is 3; a shorter timeout would give up calls that take effect.",
    )
    max_connections: Annotated[types.Whole, Field(ge=1, le=10_000)] | None = Field(
        default=None,
        description="Connections for each app and endpoint. null: one for each permit, so that no permit waits for a connection.",
    )
    proxy: types.HttpProxy | None = Field(
        default=None,
        description="An HTTP proxy for everything that goes to Tencent; TLS goes through it untouched (CONNECT). Variables like "
        "HTTPS_PROXY are ignored: they would show a proxy who calls whom without anybody's decision here.",
    )
    proxy_credentials_file: types.File | None = Field(
        default=None,
        description="A file whose first line is user:password for the proxy. It is read again for new connections.",
    )
    ca_file: types.File | None = Field(
        default=None,
        description="A PEM file with the authorities to trust instead of the public ones, for a proxy or gateway that ends TLS. "
        "It is read again for new connections.",
    )


class RetrySettings(SettingsSection):
    """How often and for how long a member is retried. Outages count towards neither."""

    max_attempts: Annotated[types.Whole, Field(ge=1, le=100)] = Field(
        default=CORE.max_attempts,
        description="Attempts for a member before it fails. With waits that double from a fraction of a second to max_wait_seconds, "
        "eight outlast the transient codes that occur in practice and end within half a minute.",
    )
    max_wait_seconds: Annotated[types.Number, Field(gt=0, le=60)] = Field(
        default=10.0,
        description="The longest wait between two attempts, in seconds. A longer one would delay the members behind it for nothing.",
    )
    give_up_after_seconds: Annotated[types.Number, Field(gt=0, le=86_400)] | None = Field(
        default=CORE.give_up_after,
        description="Seconds after which a member fails, however few its attempts. null: only max_attempts ends it.",
    )


class ServerSettings(SettingsSection):
    """The worker's own HTTP: /livez, /readyz, /metrics and the page."""

    host: types.Host = Field(
        default="0.0.0.0",  # noqa: S104 - a probe comes from outside the pod; nothing secret is served
        description="The address to listen on. All of IPv4 by default, since probes and Prometheus come from outside; nothing secret is served.",
    )
    port: Annotated[types.Whole, Field(ge=0, le=65_535)] = Field(
        default=9000, description="The port; 0 takes any free one, and logs it."
    )
    page: bool = Field(
        default=True,
        description="Whether / shows what this replica does now. Nothing can be changed there, but it names rooms and users. It takes "
        "up to 12 MiB, of those that are not in memory.budget_mib.",
    )


class LogSettings(SettingsSection):
    """What is logged, and how."""

    level: types.Level = Field(
        default="info",
        description="info has one line for each request; debug adds the lines of httpx, httpcore, aiohttp and asyncio, and those of "
        "kafka-python from info on. Of other libraries, warnings alone are logged.",
    )
    format: types.Format = Field(
        default="json", description="`json` is one object per line; `console` is for a person at a terminal."
    )


class Settings(BaseSettings):
    """All settings, individually and jointly valid. Only ``load`` makes them (loader.py)."""

    # case_sensitive: else pydantic-settings takes `Kafka` for `kafka`, and of the two one is lost.
    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, case_sensitive=True
    )

    kafka: KafkaSettings
    tencent: TencentSettings
    limits: QuotaSettings = QuotaSettings()
    batching: BatchingSettings = BatchingSettings()
    dedupe: DedupeSettings = DedupeSettings()
    memory: MemorySettings = MemorySettings()
    http: HttpSettings = HttpSettings()
    retry: RetrySettings = RetrySettings()
    server: ServerSettings = ServerSettings()
    drain_seconds: Annotated[types.Number, Field(gt=0, le=3600)] = Field(
        default=25.0,
        description="Seconds that started commands have to finish after SIGTERM. SIGKILL must come at least 30 s after that: handing "
        "over, publishing and closing may take so long. Kubernetes' default of 30 s is too short for 25: give 60, as the chart does.",
    )
    shadow: bool = Field(
        default=False,
        description="Whether this worker only pretends: it does all but the HTTP requests, and every command that would be sent "
        "gets the outcome `simulated`. For a first look at real commands.",
    )
    guards: Guards = Field(
        default=(),
        description="What stops a detector that goes mad while nobody watches: once `members` of a scope are sent within "
        f"`per_seconds`, `then` is ordered for the scope ({' or '.join(FOLLOWS)}), as an operator would, by a record in kafka.control_topic. "
        'One field of a scope may be "*": each of its values is counted by itself, and commands that lack the field are not. Each '
        "replica counts what it sends itself: a target is on one of them, an issuer may be on all. It never replaces what a person "
        "has ordered for the scope.",
    )
    log: LogSettings = LogSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic-settings' own signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return only the given values: sources.py reads the file and the environment, so that one error hides no other."""
        return (init_settings,)


def secrets_of(settings: Settings) -> tuple[str, ...]:
    """Return every secret in the settings, **bare**, for the redaction of logs. A key that cannot be read is omitted."""
    found: list[str] = []
    for app in settings.tencent.apps.values():
        try:
            found.append(app.key())
        except SignatureError:
            continue
    for part in ("common", "consumer", "producer"):
        options: Mapping[str, Any] = settings.kafka.options(part)
        for name in types.SECRET_OPTIONS & options.keys():
            found += secrets_in_option(name, str(options[name]))
    if settings.http.proxy_credentials_file is not None:
        found.append(secret_in(str(settings.http.proxy_credentials_file)).partition(":")[2])
    if settings.kafka.oauth.client_secret_file is not None:
        found.append(secret_in(str(settings.kafka.oauth.client_secret_file)))
    return tuple(dict.fromkeys(secret for secret in found if secret))
