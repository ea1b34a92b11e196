# The settings of section `kafka`, each with its default and the reason for it.
#
# What kafka-python's own options may be is not here (kafka_option_values.py, kafka_option_checks.py), nor what contradicts other settings
# (cross_checks.py).

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, SecretStr

from worker.domain.progress.commit_metadata import MAX_SPAN
from worker.errors import FileError
from worker.settings import addresses, types
from worker.settings.core_defaults import CORE
from worker.settings.kafka_option_values import RULES
from worker.settings.section import SettingsSection
from worker.small_files import read_text

CONSUMER_TIMEOUTS_MS: Final = {
    "session_timeout_ms": 15_000,
    "heartbeat_interval_ms": 300,
    "max_poll_interval_ms": 300_000,
}
"""
The defaults of ``kafka.consumer``. With kafka-python's own, a dead replica's partitions would go to others only after 45 s, and a
replica would hear of a rebalance only with its next heartbeat, up to three seconds later. The third is kafka-python's own (a test
compares).
"""
SECRET_BYTES: Final = 65_536
"""The longest secret that a file may hold; an OAuth token takes a few thousand bytes."""


class OAuthSettings(SettingsSection):
    """Signing in to Kafka with OAUTHBEARER, by tokens that an OpenID provider gives for the client credentials grant."""

    token_url: types.TokenUrl | None = Field(
        default=None, description="The provider's token endpoint. No proxy is used, and no redirect followed."
    )
    client_id: types.ClientId | None = Field(default=None, description="The client that asks for tokens.")
    client_secret_file: types.File | None = Field(
        default=None,
        description="A file whose first line is the client's secret. It is read again for each token.",
    )
    scope: types.Scope | None = Field(
        default=None, description="The scope to ask for. null leaves it to the provider."
    )
    ca_file: types.File | None = Field(
        default=None,
        description="A PEM file with the authorities that the provider's certificate must be signed by. null: the system's.",
    )
    extensions: types.Extensions = Field(
        default_factory=dict,
        description="SASL extensions that are sent with each token, for brokers that want them (Confluent Cloud: "
        "logicalCluster, identityPoolId).",
    )

    @property
    def given(self) -> bool:
        """Whether any of these settings is given."""
        return any(value for value in self.model_dump().values())


class AwsMskIamSettings(SettingsSection):
    """Signing in to Amazon MSK with IAM. It needs the extra: pip install 'moderation-worker[msk-iam]'."""

    region: types.AwsRegion | None = Field(
        default=None,
        description="The cluster's AWS region. Credentials come from AWS's default chain: a role of the pod or machine, a "
        "profile, or variables. They are looked for again for each token.",
    )


class KafkaSettings(SettingsSection):
    """Where commands come from and outcomes go."""

    bootstrap_servers: types.Servers = Field(
        description="The Kafka brokers to connect to first; two or three are enough."
    )
    group_id: types.GroupName = Field(
        default="moderation-worker",
        description="The consumer group. All replicas of one release share it; two releases never do.",
    )
    command_topics: types.Topics = Field(
        default=("moderation.commands",),
        description="The topic that commands are read from. Exactly one: a second topic needs a release of its own.",
    )
    outcome_topic: types.Topic = Field(
        default="moderation.outcomes",
        description="Where the outcome of each command goes, to the partition of the same number. "
        "It needs at least as many partitions as the command topic.",
    )
    dead_letter_topic: types.Topic = Field(
        default="moderation.dead-letters",
        description="Where records that could not be carried out go, whole and with the reason.",
    )
    control_topic: Annotated[types.Topic | None, BeforeValidator(lambda value: value or None)] = Field(
        default="moderation.control",
        description="Where operators (`moderation-worker pause`, say) and guards write the orders that every replica follows. It has one "
        "partition and cleanup.policy=compact. If there is no such topic the worker runs without; if this is null or empty it looks for none.",
    )
    quota_topic: Annotated[types.Topic | None, BeforeValidator(lambda value: value or None)] = Field(
        default="moderation.quota",
        description="Where replicas lend each other the permits that they do not use: one partition, kept for minutes. If there is "
        "no such topic, each replica has the slices of its own partitions and no more; null or empty: it looks for none.",
    )
    instance_id: types.Topic | None = Field(
        default=None,
        description="A name that this replica keeps over a restart and that no other live process has (a StatefulSet's pod "
        "name). With it a restart causes no rebalance. Without it the membership is dynamic.",
    )
    start: types.Start = Field(
        default="earliest",
        description="Where to begin in a partition for which the group has no commit. A moderation command that nobody "
        "carried out is a loss, so the default is the earliest.",
    )
    max_gap: Annotated[types.Whole, Field(ge=100, le=MAX_SPAN)] = Field(
        default=CORE.max_gap,
        description="How many offsets a partition may advance beyond its oldest open command. What is done above that command "
        f"is kept as a bitmap in the commit; {MAX_SPAN} offsets would fill the 4,096 bytes that a broker allows.",
    )
    handover_seconds: Annotated[types.Number, Field(ge=0, le=60)] = Field(
        default=5.0,
        description="Seconds that calls in flight have to finish when a partition moves to another replica. The group waits for "
        "it, so it is short: enough for an answer, not for a long backoff.",
    )
    cloudevents_headers: bool = Field(
        default=False,
        description="Whether outcomes also carry the ce_* headers of CloudEvents. Off by default, since each header costs CPU.",
    )
    common: types.Options = Field(
        default_factory=dict,
        description="kafka-python's options for every client: TLS and SASL (security_protocol, ssl_cafile, sasl_mechanism, "
        "sasl_plain_username …). sasl_plain_password and ssl_password may be given as sasl_plain_password_file and "
        "ssl_password_file.",
    )
    consumer: types.Options = Field(
        default_factory=dict,
        description="kafka-python's options for the consumer (session_timeout_ms, fetch_max_wait_ms, max_poll_records …). Those "
        "that the promises depend on are refused.",
    )
    producer: types.Options = Field(
        default_factory=dict,
        description="kafka-python's options for the producer (compression_type, linger_ms, max_request_size …). Those that the "
        "promises depend on are refused.",
    )
    oauth: OAuthSettings = OAuthSettings()
    aws_msk_iam: AwsMskIamSettings = AwsMskIamSettings()

    def options(self, part: str = "common") -> dict[str, Any]:
        """
        Return the options of one part (``common``, ``consumer`` or ``producer``) for kafka-python, **with bare secrets**.

        Secrets given as files are read at each call. Raises FileError if one cannot be read.
        """
        options: dict[str, Any] = {}
        for name, value in getattr(self, part).items():
            if not _is_secret_file(name):
                options[name] = value.get_secret_value() if isinstance(value, SecretStr) else value
        return options | self.file_secrets(part)

    def file_secrets(self, part: str) -> dict[str, str]:
        """Return the part's options that are given as files, with what the files hold **now**. Raises FileError, which names the file."""
        return {
            name.removesuffix("_file"): secret_in(value)
            for name, value in getattr(self, part).items()
            if _is_secret_file(name)
        }

    def consumer_seconds(self, option: str) -> float:
        """Return the value in force of one of ``CONSUMER_TIMEOUTS_MS``, in seconds: the default in place of one that is refused."""
        value: Any = self.consumer.get(option)
        in_force: int = value if RULES[option].fits(value) else CONSUMER_TIMEOUTS_MS[option]
        return in_force / 1000


def _is_secret_file(option: str) -> bool:
    return option.endswith("_file") and option.removesuffix("_file") in types.SECRET_OPTIONS


def secrets_in_option(option: str, value: str) -> tuple[str, ...]:
    """Return what must be hidden of an option that contains a secret: the value, and the password in it if it is a proxy's URL."""
    return (value, *addresses.proxy_passwords(value)) if option in types.PROXY_OPTIONS else (value,)


def secret_in(path: str) -> str:
    """Return the secret that a file holds **now**. Raises FileError, which names the file, if there is none."""
    try:
        secret = first_line(path)
    except FileError as error:
        raise FileError(f"{path}: {error}") from None
    if not secret.strip():
        raise FileError(f"{path}: its first line is empty")
    return secret


def first_line(path: str) -> str:
    """Return the first line of a file: the secret in it. Raises FileError if it cannot be read, or holds what no secret can."""
    line = read_text(path, SECRET_BYTES).partition("\n")[0].rstrip("\r")
    if "\0" in line:
        raise FileError("its first line has a NUL character in it")
    return line
