# Through a company's proxy, and with its own authorities: what goes through, what is reported when it does not, and what changes in mid-run.

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.certificate import self_signed
from tests.contract.tencent.call_owner import RecordingCallOwner
from tests.contract.tencent.scripted import ScriptedServer, closed_port
from tests.fakes.tencent import OK, an_app, in_turn
from tests.proxy import Proxy
from worker.domain.contract.error_codes import Verdict
from worker.redaction import Redaction
from worker.tencent.client import Client
from worker.tencent.client_options import HttpOptions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AsyncExitStack
    from pathlib import Path

    from worker.domain.effects import AttemptResult, LogEvent

pytestmark = pytest.mark.anyio

PASSWORD = "hunter2: of the proxy"
OTHER = "another password"


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with Proxy(f"worker:{PASSWORD}") as started:
        yield started


@dataclass(slots=True)
class Company:
    """A client behind a proxy, and an API with TLS that it may reach only through it."""

    client: Client
    server: ScriptedServer
    credentials: Path
    authority: Path
    logged: list[LogEvent] = field(default_factory=list)
    redaction: Redaction = field(default_factory=Redaction)

    async def call(self) -> AttemptResult:
        return await self.client.call(RecordingCallOwner())

    def change(self, file: Path, text: str) -> None:
        """Puts another file in its place, as a mounted secret is rotated."""
        new = file.with_suffix(".new")
        new.write_text(text)
        new.replace(file)


async def all_closed(proxy: Proxy) -> None:
    """uvloop refuses to close a loop on which a connection is still saying goodbye to TLS."""
    await asyncio.to_thread(proxy.wait_until_unused)


@pytest.fixture
async def company(stack: AsyncExitStack, proxy: Proxy, tmp_path: Path) -> Company:
    certificate, key = self_signed("/CN=localhost", "subjectAltName=IP:127.0.0.1")
    authority, credentials = tmp_path / "ca.crt", tmp_path / "credentials"
    authority.write_text(certificate)
    (tmp_path / "both.pem").write_text(certificate + key)
    credentials.write_text(f"worker:{PASSWORD}\n")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "both.pem")
    server = await stack.enter_async_context(ScriptedServer(in_turn(*[OK] * 9), tls))
    logged: list[LogEvent] = []
    redaction = Redaction()
    options = HttpOptions(
        proxy=proxy.url, proxy_credentials_file=str(credentials), ca_file=str(authority), keepalive=1e-9
    )
    stack.push_async_callback(all_closed, proxy)
    client = Client([an_app(server.base_url)], options, logged.append, redaction=redaction)
    stack.push_async_callback(client.aclose)
    return Company(client, server, credentials, authority, logged, redaction)


async def test_a_request_goes_through_the_proxy_and_the_proxy_sees_nothing_of_it(
    company: Company, proxy: Proxy
) -> None:
    last = await company.call()

    assert last.verdict is Verdict.DONE
    assert proxy.asked == [company.server.base_url.removeprefix("https://")]
    assert len(company.server.seen) == 1
    for word in (b"usersig", b"group_open_http_svc", b"admin"):
        assert word not in bytes(proxy.passed)


async def test_a_connection_through_the_proxy_is_kept_and_used_again(
    stack: AsyncExitStack, company: Company, proxy: Proxy
) -> None:
    options = HttpOptions(
        proxy=proxy.url, proxy_credentials_file=str(company.credentials), ca_file=str(company.authority)
    )
    client = Client([an_app(company.server.base_url)], options)
    stack.push_async_callback(client.aclose)

    for _ in range(3):
        await client.call(RecordingCallOwner())

    assert proxy.tunnels == 1


async def test_without_its_proxy_nothing_leaves(
    company: Company, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither directly, nor through what the environment names."""
    with Proxy() as other:
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, other.url)
        proxy.status = 503

        last = await company.call()

        assert other.asked == []
    assert (last.verdict, last.error, last.end_unknown) == (Verdict.TRANSPORT, "proxy", False)
    assert "does not connect (HTTP 503)" in last.error_info
    assert company.server.connections == 0


async def test_a_proxy_that_is_not_there_is_reported(stack: AsyncExitStack, company: Company) -> None:
    nowhere = closed_port()
    client = Client(
        [an_app(company.server.base_url)], HttpOptions(proxy=nowhere, ca_file=str(company.authority))
    )
    stack.push_async_callback(client.aclose)

    last = await client.call(RecordingCallOwner())

    assert (last.error, last.end_unknown) == ("proxy", False)
    assert f"the proxy {nowhere} cannot be reached" in last.error_info
    assert company.server.connections == 0


async def test_a_proxy_whose_name_nobody_knows_is_told(stack: AsyncExitStack, company: Company) -> None:
    options = HttpOptions(proxy="http://proxy.invalid:3128", ca_file=str(company.authority))
    logged: list[LogEvent] = []
    client = Client([an_app(company.server.base_url)], options, logged.append)
    stack.push_async_callback(client.aclose)

    last = await client.call(RecordingCallOwner())

    assert (last.error, last.end_unknown) == ("proxy", False)
    assert [event.event for event in logged] == ["connection.refused"]
    assert logged[0].fields["reason"] == last.error_info
    assert last.error_info.startswith("the name of the proxy http://proxy.invalid:3128 cannot be resolved")


async def test_credentials_are_rotated_without_a_restart_and_wrong_ones_name_their_file(
    company: Company, proxy: Proxy
) -> None:
    first = await company.call()
    proxy.credentials = f"worker:{OTHER}"
    refused = await company.call()
    company.change(company.credentials, f"worker:{OTHER}\r\n")
    second = await company.call()

    assert [each.verdict for each in (first, refused, second)] == [
        Verdict.DONE,
        Verdict.TRANSPORT,
        Verdict.DONE,
    ]
    assert f"put the right ones into {company.credentials}" in refused.error_info
    (logged,) = company.logged
    assert (logged.event, logged.fields["error"]) == ("connection.refused", "proxy")
    texts = f"{company.logged} {refused} {company.client!r}"
    assert PASSWORD not in texts
    assert OTHER not in texts
    assert OTHER not in company.redaction.clean(f"so {OTHER} is hidden")


@pytest.mark.parametrize("spoilt", ["", "worker\n", "\n", None])
async def test_credentials_that_are_spoilt_are_logged_while_the_last_good_ones_serve(
    company: Company, spoilt: str | None
) -> None:
    if spoilt is None:
        company.credentials.unlink()
    else:
        company.change(company.credentials, spoilt)

    results = [await company.call(), await company.call()]
    company.change(company.credentials, f"worker:{PASSWORD}")
    results.append(await company.call())

    assert {each.verdict for each in results} == {Verdict.DONE}
    (logged,) = company.logged
    assert (logged.event, logged.fields["file"]) == ("file.unusable", str(company.credentials))


async def test_an_authority_is_spoilt_replaced_and_mended_without_a_restart(company: Company) -> None:
    certificate = company.authority.read_text()
    company.change(company.authority, "no certificate")
    with_the_last_good_one = await company.call()
    company.change(company.authority, self_signed("/CN=another")[0])
    with_another = await company.call()
    company.change(company.authority, certificate)
    mended = await company.call()

    assert [each.error for each in (with_the_last_good_one, with_another, mended)] == [None, "tls", None]
    assert f"is not valid for {company.authority}" in with_another.error_info
    assert [each.event for each in company.logged] == ["file.unusable", "connection.refused"]
    assert company.logged[0].fields["file"] == str(company.authority)


async def test_a_proxy_may_have_an_ipv6_address(company: Company) -> None:
    try:
        six = Proxy(family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6")
    with six:
        options = HttpOptions(proxy=six.url, ca_file=str(company.authority))
        client = Client([an_app(company.server.base_url)], options)

        last = await client.call(RecordingCallOwner())
        await client.aclose()
        await all_closed(six)

    assert six.url.startswith("http://[::1]:")
    assert last.verdict is Verdict.DONE


async def test_an_api_on_this_machine_itself_is_reached_without_the_proxy(
    stack: AsyncExitStack, proxy: Proxy
) -> None:
    """The simulator: its plain http would show the proxy an administrator's signature."""
    server = await stack.enter_async_context(ScriptedServer(in_turn(OK)))
    client = Client([an_app(server.base_url)], HttpOptions(proxy=proxy.url))
    stack.push_async_callback(client.aclose)

    last = await client.call(RecordingCallOwner())

    assert last.verdict is Verdict.DONE
    assert proxy.asked == []
