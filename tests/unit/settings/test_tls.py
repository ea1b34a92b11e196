# TLS files: what OpenSSL cannot use is refused at the setting that must change, and no password is asked for at a terminal.

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.openssl import openssl
from tests.unit.settings.environment import minimal, problems

if TYPE_CHECKING:
    from pathlib import Path

PASSWORD = "hunter2-hunter2"


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates, keys, encrypted keys, and what is left of some after an accident."""
    folder = tmp_path_factory.mktemp("pem")

    def make(command: str) -> None:
        openssl(*command.split(), folder=folder)

    for name in ("a", "b"):
        make(f"req -x509 -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.crt -days 2 -subj /CN={name}")
    make(f"rsa -aes256 -passout pass:{PASSWORD} -in a.key -out locked.key")
    make(f"pkcs8 -topk8 -in a.key -out locked8.key -passout pass:{PASSWORD}")
    make("ecparam -genkey -name prime256v1 -out ec.key")
    certificate, key = (folder / "a.crt").read_bytes(), (folder / "a.key").read_bytes()
    (folder / "cut.crt").write_bytes(certificate[:600])
    (folder / "cut.key").write_bytes(key[:800])
    (folder / "both.pem").write_bytes(certificate + key)
    (folder / "der.crt").write_bytes(b"0\x82\x03\x0f")
    (folder / "text").write_text("no certificate at all")
    (folder / "empty").write_text("")
    return folder


@pytest.mark.parametrize(
    ("given", "setting"),
    [
        ({"ssl_cafile": "a.crt", "ssl_certfile": "a.crt", "ssl_keyfile": "a.key"}, None),
        ({"ssl_certfile": "both.pem"}, None),
        ({"ssl_certfile": "a.crt", "ssl_keyfile": "locked.key", "ssl_password": PASSWORD}, None),
        ({"ssl_certfile": "a.crt", "ssl_keyfile": "locked8.key", "ssl_password": PASSWORD}, None),
        ({"ssl_certfile": "a.crt", "ssl_keyfile": "locked.key"}, "ssl_password"),
        ({"ssl_certfile": "a.crt", "ssl_keyfile": "locked8.key"}, "ssl_password"),
        ({"ssl_certfile": "a.crt", "ssl_keyfile": "locked.key", "ssl_password": "wrong"}, "ssl_password"),
        ({"ssl_certfile": "a.crt", "ssl_keyfile": "locked8.key", "ssl_password": "wrong"}, "ssl_password"),
        (
            {"ssl_certfile": "a.crt", "ssl_keyfile": "locked8.key", "ssl_password": "x" * 2_000},
            "ssl_password",
        ),
        ({"ssl_certfile": "a.crt", "ssl_keyfile": "b.key"}, "ssl_keyfile"),
        ({"ssl_certfile": "a.crt", "ssl_keyfile": "ec.key"}, "ssl_keyfile"),
        ({"ssl_certfile": "a.crt", "ssl_keyfile": "cut.key"}, "ssl_keyfile"),
        ({"ssl_certfile": "a.crt", "ssl_keyfile": "a.crt"}, "ssl_keyfile"),
        ({"ssl_certfile": "a.crt", "ssl_keyfile": "empty"}, "ssl_keyfile"),
        ({"ssl_certfile": "a.crt"}, "ssl_certfile"),
        ({"ssl_certfile": "cut.crt", "ssl_keyfile": "a.key"}, "ssl_certfile"),
        ({"ssl_certfile": "der.crt", "ssl_keyfile": "a.key"}, "ssl_certfile"),
        ({"ssl_keyfile": "a.key"}, "ssl_certfile"),
        ({"ssl_cafile": "cut.crt"}, "ssl_cafile"),
        ({"ssl_cafile": "der.crt"}, "ssl_cafile"),
        ({"ssl_cafile": "a.key"}, "ssl_cafile"),
        ({"ssl_cafile": "text"}, "ssl_cafile"),
        ({"ssl_cafile": "empty"}, "ssl_cafile"),
    ],
)
def test_files_of_tls_that_openssl_could_not_use_are_refused_at_the_right_one(
    pem: Path, given: dict[str, str], setting: str | None
) -> None:
    """kafka-python would say that Kafka cannot be reached, or wait at a terminal for the password."""
    files = {name: value if name == "ssl_password" else str(pem / value) for name, value in given.items()}

    found = problems(minimal(kafka={"common": {"security_protocol": "SSL", **files}}))

    assert list(found) == ([] if setting is None else [f"kafka.common.{setting}"])
    assert PASSWORD not in str(found)


def test_the_password_of_a_key_may_be_given_as_a_file(pem: Path) -> None:
    (pem / "password").write_text(f"{PASSWORD}\n")
    common = {"security_protocol": "SSL", "ssl_certfile": str(pem / "a.crt"), "ssl_keyfile": str(pem / "locked.key"), "ssl_password_file": str(pem / "password")}  # fmt: skip

    assert problems(minimal(kafka={"common": common})) == {}
