# Secrets change while commands flow: rotated, broken and mended in mid-run, on brokers that ask for them. Nothing is lost.
#
# A broken secret is an obstacle that names its file, and the worker goes on by itself when the file is right again.

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.process.environment import LATENCY, Environment, command
from tests.secured_kafka import oauthbearer, secured_kafka
from tests.token_server import CLIENT, SCOPE, SECRET, TokenServer
from worker.testing.checker.contract import BAN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from worker.testing.checker.evidence import Planned

pytestmark = pytest.mark.kafka

COMMANDS: Final = 2_000
RATE: Final = 150.0
NOTICED_WITHIN: Final = 30.0
LIFETIME: Final = 5.0
"""Of a token, in seconds, and so of a session: the broker asks for another one a few times in each run."""


def commands() -> list[Planned]:
    return [
        command(BAN, f"group-{one % 20}", f"user-{one}", f"id-{one}", duration=60) for one in range(COMMANDS)
    ]


def told(environment: Environment, words: str) -> Callable[[], bool]:
    return lambda: any(words in str(obstacle) for obstacle in environment.obstacles())


def rotated_broken_and_mended(
    environment: Environment,
    *,
    rotate: Callable[[], None],
    rotated: Callable[[], bool],
    spoil: Callable[[], None],
    says: str,
    mend: Callable[[], None],
) -> None:
    """
    Plays the whole story on a worker that is ready, and has the checker judge it.
    """
    environment.send(commands(), RATE)
    environment.play(1.0)
    rotate()
    environment.play_until(rotated, NOTICED_WITHIN, "rotated")
    assert not environment.obstacles()
    spoil()
    environment.play_until(told(environment, says), NOTICED_WITHIN, f"told with {says}")
    mend()
    environment.play_until(lambda: not environment.obstacles(), NOTICED_WITHIN, "mended")
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
    """
    At debug level, so that neither the secret nor a token is in any line.
    """
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
            rotate=change("second secret", "second secret\n"),
            rotated=lambda: bool(token_server.given),
            spoil=change("third secret", "second secret\n"),
            says=str(secret),
            mend=change("third secret", "third secret\r\n"),
        )
        log = worker.log.read_text("utf-8")

    assert len(log) > 100_000
    for word in (SECRET, "second secret", "third secret", "eyJ"):
        assert word not in log
