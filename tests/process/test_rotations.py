# Secrets change while commands flow: rotated, broken and mended in mid-run, on brokers that ask for them. Nothing is lost.
#
# A broken secret is an obstacle that names its file, and the worker goes on by itself when the file is right again.

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pytest
from kafka.admin import ScramMechanism, UserScramCredentialUpsertion

from tests.certificate import Authority
from tests.process.environment import LATENCY, Environment, command
from tests.proxy import Proxy
from tests.secured_kafka import oauthbearer, secured_kafka
from tests.token_server import CLIENT, SCOPE, SECRET, TokenServer
from worker.testing.checker.contract import BAN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from kafka import KafkaAdminClient

    from worker.testing.checker.evidence import PlannedRecord

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.usefixtures("collected_sockets"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

COMMANDS: Final = 2_000
RATE: Final = 150.0
LASTING: Final = {"session_timeout_ms": 60_000}
"""A membership that outlives each break: what was begun is then finished, and nothing is carried out again."""
NOTICED_WITHIN: Final = 30.0
LIFETIME: Final = 5.0
"""Of a token, in seconds, and so of a session: the broker asks for another one a few times in each run."""


def commands() -> list[PlannedRecord]:
    return [
        command(BAN, f"group-{one % 20}", f"user-{one}", f"id-{one}", duration=60) for one in range(COMMANDS)
    ]


def has_obstacle(environment: Environment, words: str) -> Callable[[], bool]:
    return lambda: any(words in str(obstacle) for obstacle in environment.obstacles())


@dataclass(frozen=True, slots=True)
class Break:
    """What somebody gets wrong, what the worker says of it, and how it is mended."""

    spoil: Callable[[], None]
    says: str
    mend: Callable[[], None]


def rotated_broken_and_mended(
    environment: Environment, rotate: Callable[[], None], rotated: Callable[[], bool], *breaks: Break
) -> None:
    """Plays the whole story on a worker that is ready, and has the checker judge it."""
    environment.send(commands(), RATE)
    environment.play(1.0)
    rotate()
    environment.play_until(rotated, NOTICED_WITHIN, "rotated")
    environment.play(1.0)
    # A connection that was made while the files were being written may have failed, and is made again.
    environment.play_until(lambda: not environment.obstacles(), NOTICED_WITHIN, "without obstacles")
    for one in breaks:
        one.spoil()
        environment.play_until(has_obstacle(environment, one.says), NOTICED_WITHIN, f"reported: {one.says}")
        one.mend()
        more = min(len(environment.outcomes) + 1, COMMANDS)
        environment.play_until(
            lambda: not environment.obstacles() and len(environment.outcomes) >= more,  # noqa: B023 - called at once
            NOTICED_WITHIN,
            "mended",
        )
    environment.play_to_the_end()

    report = environment.judged()

    assert report.clean, report.examples
    assert len(environment.outcomes) == COMMANDS


@pytest.fixture
def token_server() -> Iterator[TokenServer]:
    with TokenServer() as server:
        server.lifetime = LIFETIME
        yield server


def test_a_client_s_secret_is_rotated_broken_and_mended_under_load(
    token_server: TokenServer, tmp_path: Path
) -> None:
    """At debug level, so that neither the secret nor a token is in any line."""
    secret = tmp_path / "client-secret"
    secret.write_text(f"{SECRET}\n")
    kafka: dict[str, Any] = {
        "common": {"security_protocol": "SASL_PLAINTEXT"},
        "oauth": {
            "token_url": token_server.token_url,
            "client_id": CLIENT,
            "client_secret_file": str(secret),
            "scope": SCOPE,
        },
    }
    properties, jvm = oauthbearer(token_server.jwks_url)
    with (
        secured_kafka("SASL_PLAINTEXT", properties, jvm) as (broker, guarded),
        Environment(broker.bootstrap_servers, *LATENCY) as environment,
    ):
        worker = environment.stage.start_worker(
            {"kafka": {**kafka, "bootstrap_servers": guarded}, "log": {"level": "debug"}}
        )
        environment.stage.wait_until_ready(worker)

        def change(to: str, file: str) -> Callable[[], None]:
            def changed() -> None:
                token_server.secret = to
                secret.write_text(file)
                token_server.given.clear()

            return changed

        rotated_broken_and_mended(
            environment,
            change("second secret", "second secret\n"),
            lambda: bool(token_server.given),
            Break(
                change("third secret", "second secret\n"),
                str(secret),
                change("third secret", "third secret\r\n"),
            ),
        )
        log = worker.log.read_text("utf-8")

    assert len(log) > 100_000
    for word in (SECRET, "second secret", "third secret", "eyJ"):
        assert word not in log


PASSWORDS: Final = ("first of all the passwords", "second of all the passwords", "third of all the passwords")


def scram(admin: KafkaAdminClient, password: str) -> None:
    admin.alter_user_scram_credentials(
        [UserScramCredentialUpsertion(CLIENT, ScramMechanism.SCRAM_SHA_512, password)]
    )


def signed_in(mechanism: str, guarded: str, way: Proxy, password: Path) -> dict[str, Any]:
    """The settings of a worker that signs in so; whatever goes through ``way`` can be cut there."""
    common = {
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": mechanism,
        "sasl_plain_username": CLIENT,
        "sasl_plain_password_file": str(password),
        "proxy_url": way.url,
    }
    kafka = {"bootstrap_servers": guarded, "consumer": LASTING, "common": common}
    return {"kafka": kafka, "log": {"level": "debug"}}


def shows_none(log: str) -> bool:
    assert len(log) > 100_000
    return not any(word in log for word in PASSWORDS)


def test_a_scram_password_is_rotated_broken_and_mended_under_load(tmp_path: Path) -> None:
    first, second, third = PASSWORDS
    properties = {
        "listener.name.guarded.sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.guarded.scram-sha-512.sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule required;",
    }
    password = tmp_path / "password"
    password.write_text(f"{first}\n")
    with (
        secured_kafka("SASL_PLAINTEXT", properties) as (broker, guarded),
        Proxy() as way,
        Environment(broker.bootstrap_servers, *LATENCY) as environment,
        environment.admin() as admin,
    ):
        scram(admin, first)
        worker = environment.stage.start_worker(signed_in("SCRAM-SHA-512", guarded, way, password))
        environment.stage.wait_until_ready(worker)

        def changed(to: str, file: str) -> Callable[[], None]:
            def act() -> None:
                scram(admin, to)
                password.write_text(file)
                way.asked.clear()
                way.cut()

            return act

        rotated_broken_and_mended(
            environment,
            changed(second, second),
            lambda: len(way.asked) > 2,
            Break(changed(third, second), str(password), changed(third, f"{third}\r\n")),
        )
        assert shows_none(worker.log.read_text("utf-8"))


def test_a_plain_password_is_rotated_broken_and_mended_under_load(tmp_path: Path) -> None:
    """Brokers know these passwords from their own settings, so a new one comes with the broker's restart."""
    first, second, third = PASSWORDS
    module = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    properties = {
        "listener.name.guarded.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.guarded.plain.sasl.jaas.config": f'{module} user_{CLIENT}="{first}";',
    }
    password = tmp_path / "password"
    password.write_text(f"{first}\n")
    with (
        secured_kafka("SASL_PLAINTEXT", properties) as (broker, guarded),
        Proxy() as way,
        Environment(broker.bootstrap_servers, *LATENCY) as environment,
    ):
        worker = environment.stage.start_worker(signed_in("PLAIN", guarded, way, password))
        environment.stage.wait_until_ready(worker)

        def rotate() -> None:
            settings = broker.folder / "server.properties"
            settings.write_text(settings.read_text("utf-8").replace(first, second), "utf-8")
            password.write_text(f"{second}\r\n")
            broker.kill()
            broker.start()

        def spoil() -> None:
            password.write_text(third)
            way.cut()

        def mend() -> None:
            password.write_text(second)

        rotated_broken_and_mended(
            environment,
            rotate,
            lambda: len(environment.outcomes) > 600 and not environment.obstacles(),
            Break(spoil, str(password), mend),
        )
        assert shows_none(worker.log.read_text("utf-8"))


def test_certificates_and_keys_are_rotated_broken_and_mended_under_load(tmp_path: Path) -> None:
    """A certificate of an authority that the broker does not trust, and an authority that has not signed the broker's."""
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    chain, key = ours.signed("broker")
    (tmp_path / "broker.pem").write_text(chain + key)
    files = {name: tmp_path / name for name in ("ca.crt", "worker.crt", "worker.key")}
    properties = {
        "listener.name.guarded.ssl.client.auth": "required",
        "listener.name.guarded.ssl.keystore.type": "PEM",
        "listener.name.guarded.ssl.keystore.location": str(tmp_path / "broker.pem"),
        "listener.name.guarded.ssl.truststore.type": "PEM",
        "listener.name.guarded.ssl.truststore.location": str(tmp_path / "ours" / "ca.crt"),
    }
    first, second, strange = ours.signed("worker"), ours.signed("worker"), theirs.signed("worker")

    def written(authority: str, pair: tuple[str, str]) -> None:
        for name, text in zip(files, (authority, *pair), strict=True):
            files[name].write_text(text)

    written(ours.certificate, first)
    with (
        secured_kafka("SSL", properties) as (broker, guarded),
        Proxy() as way,
        Environment(broker.bootstrap_servers, *LATENCY) as environment,
    ):
        worker = environment.stage.start_worker(
            {
                "kafka": {
                    "bootstrap_servers": guarded,
                    "consumer": LASTING,
                    "common": {
                        "security_protocol": "SSL",
                        "ssl_cafile": str(files["ca.crt"]),
                        "ssl_certfile": str(files["worker.crt"]),
                        "ssl_keyfile": str(files["worker.key"]),
                        "proxy_url": way.url,
                    },
                }
            }
        )
        environment.stage.wait_until_ready(worker)

        def changed(authority: str, pair: tuple[str, str]) -> Callable[[], None]:
            def act() -> None:
                written(authority, pair)
                way.asked.clear()
                way.cut()

            return act

        whole = changed(ours.certificate, second)
        rotated_broken_and_mended(
            environment,
            whole,
            lambda: len(way.asked) > 2,
            Break(
                changed(ours.certificate, strange), f"refuses the certificate in {files['worker.crt']}", whole
            ),
            Break(changed(theirs.certificate, second), f"not valid for {files['ca.crt']}", whole),
        )
