# Brokers that ask who comes: one listener for everybody, and one that wants a password, a token or a certificate. No test is here.

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from tests.token_server import AUDIENCE, ISSUER
from worker.testing.kafka.embedded_kafka import EmbeddedKafka, free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_MODULES: Final = "org.apache.kafka.common.security"
_HANDLER: Final = f"{_MODULES}.oauthbearer.OAuthBearerValidatorCallbackHandler"


@contextmanager
def secured_kafka(
    protocol: str, properties: Mapping[str, str], jvm: Sequence[str] = ()
) -> Iterator[tuple[EmbeddedKafka, str]]:
    """A broker, and the address of its listener GUARDED, which speaks this protocol and has these properties."""
    (port,) = free_ports(1)
    listeners = (
        f"PLAINTEXT://127.0.0.1:{{broker}},GUARDED://127.0.0.1:{port},CONTROLLER://127.0.0.1:{{controller}}"
    )
    given = {
        "listeners": listeners,
        "advertised.listeners": listeners,
        "listener.security.protocol.map": f"PLAINTEXT:PLAINTEXT,GUARDED:{protocol},CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        **properties,
    }
    if protocol.startswith("SASL"):
        given["sasl.enabled.mechanisms"] = "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER"
    with EmbeddedKafka(properties=given, jvm=jvm) as kafka:
        yield kafka, f"127.0.0.1:{port}"


def oauthbearer(jwks_url: str) -> tuple[dict[str, str], list[str]]:
    """The properties of a listener that accepts the tokens of tests/token_server.py, and the options of its Java."""
    return {
        "listener.name.guarded.sasl.enabled.mechanisms": "OAUTHBEARER",
        "listener.name.guarded.oauthbearer.sasl.jaas.config": f"{_MODULES}.oauthbearer.OAuthBearerLoginModule required;",
        "listener.name.guarded.oauthbearer.sasl.server.callback.handler.class": _HANDLER,
        "sasl.oauthbearer.jwks.endpoint.url": jwks_url,
        "sasl.oauthbearer.jwt.validator.class": f"{_MODULES}.oauthbearer.BrokerJwtValidator",
        "sasl.oauthbearer.expected.audience": AUDIENCE,
        "sasl.oauthbearer.expected.issuer": ISSUER,
    }, [f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={jwks_url}"]
