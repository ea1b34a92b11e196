# One harmless call per app, against the local Tencent API: what is said of a right one, and of each thing that can be wrong.

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.certificate import self_signed
from tests.contract.tencent.scripted import ScriptedServer
from tests.fakes.tencent import Reply, in_turn
from worker.tencent.client_options import AppCredentials, HttpOptions
from worker.tencent.trial_call import ENDPOINT, try_apps
from worker.testing.simulator.faults import FaultValues
from worker.testing.simulator.server import Simulator, SimulatorConfig
from worker.testing.simulator.signature import SimulatedApp

if TYPE_CHECKING:
    from pathlib import Path

    from worker.tencent.trial_call import TrialResult

KEY = "5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e"


def tried(*apps: dict[str, Any], **faults: Any) -> tuple[list[TrialResult], dict[str, Any]]:
    """What is said of these apps, whose defaults are right, and what the API has seen."""

    async def run() -> tuple[list[TrialResult], dict[str, Any]]:
        known = tuple(SimulatedApp(number, (KEY,), ("administrator",)) for number in (1, 2))
        async with Simulator(
            SimulatorConfig(apps=known, faults=FaultValues(**faults), keep_lines=0)
        ) as simulator:
            right: dict[str, Any] = {
                "sdk_app_id": 1,
                "identifier": "administrator",
                "base_url": simulator.url,
                "secret_key": KEY,
            }
            credentials = [
                AppCredentials(**({"name": f"app-{number}"} | right | app)) for number, app in enumerate(apps)
            ]
            trials = await try_apps(credentials, HttpOptions(timeout=5.0))
            return trials, simulator.stats

    return asyncio.run(run())


def test_one_request_per_app_is_sent_and_nothing_is_changed() -> None:
    trials, stats = tried({"sdk_app_id": 1}, {"sdk_app_id": 2})

    assert [(trial.app, trial.passed, trial.code) for trial in trials] == [
        ("app-0", True, 0),
        ("app-1", True, 0),
    ]
    assert "accepts key and administrator" in trials[0].explanation
    assert stats["requests"] == {ENDPOINT: {"0": 2}}
    assert stats["members_applied"] == {}


@pytest.mark.parametrize(
    ("wrong", "code", "remedy"),
    [
        ({"secret_key": KEY[::-1]}, 70009, "check the secret key"),
        ({"identifier": "bob"}, 60010, "must be an app administrator"),
        ({"sdk_app_id": 5}, 70020, "check sdk_app_id and region"),
    ],
    ids=["another key", "no administrator", "an unknown app"],
)
def test_what_is_wrong_with_the_settings_is_explained_with_its_remedy(
    wrong: dict[str, Any], code: int, remedy: str
) -> None:
    (trial,), stats = tried(wrong)

    assert (trial.passed, trial.is_transient, trial.code) == (False, False, code)
    assert remedy in trial.explanation
    assert stats["requests"] == {ENDPOINT: {str(code): 1}}  # it is not tried again


@pytest.mark.parametrize(
    ("fault", "code", "remedy"),
    [
        ("wrong_region", 60026, "region"),
        ("signature_expired", 70001, "set the clock of this machine"),
        ("plan_expired", 60020, "buy or renew"),
    ],
)
def test_what_only_tencent_knows_is_explained_with_its_remedy(fault: str, code: int, remedy: str) -> None:
    (trial,), _ = tried({}, **{fault: True})

    assert (trial.passed, trial.is_transient, trial.code) == (False, False, code)
    assert remedy in trial.explanation


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("https://nowhere.invalid", "the name nowhere.invalid cannot be resolved"),
        ("https://127.0.0.1:1", "no connection to 127.0.0.1:1"),
    ],
)
def test_a_network_that_leads_nowhere_is_explained_and_may_pass(address: str, reason: str) -> None:
    (trial,), _ = tried({"base_url": address})

    assert (trial.passed, trial.is_transient, trial.code) == (False, True, None)
    assert reason in trial.explanation


def test_a_dns_that_hangs_is_explained_and_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop's own threads asked again, and its end waited for them."""
    released = threading.Event()
    ended: list[str] = []

    def hangs(host: str, *_: Any, **__: Any) -> Any:
        released.wait(20)
        ended.append(host)
        raise socket.gaierror(socket.EAI_AGAIN, "try again")

    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    app = AppCredentials("main", 1, "administrator", "https://hangs.test", secret_key=KEY)
    try:
        (trial,) = asyncio.run(try_apps([app], HttpOptions(timeout=1.0, connect_timeout=0.2)))
        waited_for = list(ended)
    finally:
        released.set()

    assert (trial.passed, trial.is_transient) == (False, True)
    assert "the name hangs.test cannot be resolved" in trial.explanation
    assert waited_for == []


def test_an_outage_may_pass_and_a_busy_api_too() -> None:
    (down,), _ = tried({}, outage="502")
    busy, _ = tried({}, {}, {})  # one a second is allowed

    assert (down.is_transient, down.code) == (True, None)
    assert sorted(trial.code or 0 for trial in busy) == [0, 60007, 60007]
    assert all(trial.passed or (trial.is_transient and "try again" in trial.explanation) for trial in busy)


def test_tls_that_proves_nothing_is_explained(tmp_path: Path) -> None:
    """A proxy that opens TLS looks like this: another authority has signed."""
    certificate, key = self_signed("/CN=127.0.0.1", "subjectAltName=IP:127.0.0.1")
    (tmp_path / "both.pem").write_text(certificate + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "both.pem")

    async def run() -> list[TrialResult]:
        async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context) as server:
            port = server.sockets[0].getsockname()[1]
            app = AppCredentials("main", 1, "administrator", f"https://127.0.0.1:{port}", secret_key=KEY)
            return await try_apps([app], HttpOptions(timeout=5.0))

    (trial,) = asyncio.run(run())

    assert (trial.passed, trial.code) == (False, None)
    assert "cannot prove who it is" in trial.explanation
    assert "SSL_CERT_FILE" in trial.explanation


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (
            None,
            "the name of the proxy http://proxy.invalid:3128 cannot be resolved: check http.proxy, and DNS",
        ),
        (b"", "no connection to nowhere.invalid through the proxy {proxy}"),
        (b"HTTP/1.1 407 x\r\nContent-Length: 0\r\n\r\n", "wants other credentials (HTTP 407)"),
        (b"SSH-2.0-x\r\n\r\n", "what answers at nowhere.invalid gives no usable HTTP answer"),
    ],
    ids=["no such name", "hangs", "refuses", "is none"],
)
def test_a_proxy_is_blamed_for_what_is_its_fault(answer: bytes | None, reason: str) -> None:
    """Behind a proxy nobody asks for the address of the API, so its name need not be known here."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer or b"")
        await reader.read()
        writer.close()

    async def run() -> tuple[str, str]:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            here = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            proxy = "http://proxy.invalid:3128" if answer is None else here
            app = AppCredentials("main", 1, "administrator", "https://nowhere.invalid", secret_key=KEY)
            (trial,) = await try_apps([app], HttpOptions(timeout=1.0, connect_timeout=0.5, proxy=proxy))
            return trial.explanation, proxy

    explanation, proxy = asyncio.run(run())

    assert reason.format(proxy=proxy) in explanation


@pytest.mark.parametrize(
    ("status", "is_transient", "remedy"),
    [
        (429, True, "try again in a moment"),
        (408, True, "try again in a moment"),
        (503, True, "HTTP status 503"),
        (403, False, "HTTP status 403"),
        (302, False, "something on the way redirects"),
        (101, False, "HTTP status 101"),
    ],
)
def test_a_gateway_that_is_busy_says_nothing_about_the_settings(
    status: int, is_transient: bool, remedy: str
) -> None:
    async def run() -> TrialResult:
        async with ScriptedServer(in_turn(Reply(b"", status))) as server:
            app = AppCredentials("main", 1, "administrator", server.base_url, secret_key=KEY)
            (trial,) = await try_apps([app], HttpOptions(timeout=5.0))
            return trial

    trial = asyncio.run(run())

    assert (trial.passed, trial.is_transient, trial.code) == (False, is_transient, None)
    assert f"HTTP {status}" in trial.explanation
    assert remedy in trial.explanation
