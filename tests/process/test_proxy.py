# The raid behind a company's proxy that wants a password, with TLS to the API behind it, which is reached in no other way.

from __future__ import annotations

import asyncio
import ssl
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.certificate import self_signed
from tests.proxy import Proxy
from worker.testing.checker.contract import ADMINISTRATOR
from worker.testing.checker.evidence_check import check
from worker.testing.demo.environment import APP, SDK_APP_ID, DemoEnvironment
from worker.testing.demo.raid_run import carry_out, wanted_outcomes
from worker.testing.demo.scenario import plan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Cluster

pytestmark = pytest.mark.kafka

PASSWORD = "correct: horse battery"


@contextmanager
def tls_before(url: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """The address of a port with TLS whose connections go on to ``url``, and the certificate of its authority."""
    certificate, key = self_signed("/CN=localhost", "subjectAltName=IP:127.0.0.1")
    authority, both = folder / "ca.crt", folder / "both.pem"
    authority.write_text(certificate)
    both.write_text(certificate + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    target = urlsplit(url)

    async def one_way(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        with suppress(OSError):
            writer.close()

    async def both_ways(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, on = await asyncio.open_connection(target.hostname, target.port)
        await asyncio.gather(one_way(reader, on), one_way(back, writer))

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(
        asyncio.start_server(both_ways, "127.0.0.1", 0, ssl=context, backlog=512)
    )
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}", authority
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        server.close()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


def test_a_raid_goes_through_a_proxy_with_a_password_and_tls_to_the_api(
    kafka: Cluster, tmp_path: Path
) -> None:
    raid = plan(1_000, seed=21)
    credentials = tmp_path / "credentials"
    credentials.write_text(f"worker:{PASSWORD}\n")
    with (
        DemoEnvironment(kafka.bootstrap_servers) as stage,
        Proxy(f"worker:{PASSWORD}") as proxy,
    ):
        stage.start_kafka()
        stage.start_simulator("--latency", "0.03")
        stage.control("faults", {"bad_user_list": raid.bad_users})
        with tls_before(stage.api, tmp_path) as (api, authority):
            app = {
                "sdk_app_id": SDK_APP_ID,
                "identifier": ADMINISTRATOR,
                "secret_key_file": str(stage.key_file),
                "base_url": api,
            }
            http = {
                "proxy": proxy.url,
                "proxy_credentials_file": str(credentials),
                "ca_file": str(authority),
            }
            worker = stage.start_worker(
                {"tencent": {"apps": {APP: app}}, "http": http, "log": {"level": "debug"}}
            )
            stage.wait_until_ready(worker)
            seen = carry_out(stage, raid)
            log = worker.log.read_text("utf-8")

    report = check(seen.evidence)
    assert report.clean, report.examples
    assert len(seen.evidence.outcomes) == wanted_outcomes(raid)
    assert set(proxy.asked) == {api.removeprefix("https://")}
    assert 0 < proxy.tunnels <= len(seen.evidence.requests)
    assert b"usersig" not in bytes(proxy.passed)
    assert PASSWORD not in log
    assert seen.exit_codes == {"worker 1": 0}
