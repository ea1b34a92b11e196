# One harmless call per app, to learn whether key, administrator, region and network are right: for `check --tencent`.
#
# It reads the first of the app's groups and changes nothing (Tencent's page "Getting All Groups in an App", which allows one
# call a second). It is sent by the worker's own client. What an answer means is in domain/contract/error_codes.py.

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from worker.domain.contract.error_codes import Verdict, remedy
from worker.domain.effects import Attempt
from worker.tencent.client import Client
from worker.tencent.connector_factory import LOOKUPS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.domain.effects import AttemptResult
    from worker.tencent.client_options import AppCredentials, HttpOptions

ENDPOINT: Final = "group_open_http_svc/get_appid_group_list"
BODY: Final = b'{"Limit":1,"Next":0}'

_TRANSPORT: Final = {
    "connect": "no connection to {host}: check the network, a firewall on the way, and region or base_url",
    "tls": "{host} cannot prove who it is: check base_url, a proxy that opens TLS, and the clock; SSL_CERT_FILE adds an authority",
    "http": "what answers at {host} gives no usable HTTP answer: check base_url, and any proxy on the way",
    "timeout": "{host} does not answer in time: check the network and any proxy or firewall on the way",
    "reset": "{host} ends the connection without an answer: check any proxy or firewall on the way",
    "cut": "the answer of {host} ends too early: check any proxy or firewall on the way",
    "too_long": "what answers at {host} is not Tencent's API: check base_url, DNS, and any proxy on the way",
}
"""What to do if no answer of Tencent's came, by the error of http_transport.py."""
_THROUGH_PROXY: Final = (
    "no connection to {host} through the proxy {proxy}: check the network, http.proxy, and region or base_url"
)
_NO_NAME: Final = "the name {host} cannot be resolved: check region or base_url, and DNS"


@dataclass(frozen=True, slots=True)
class TrialResult:
    """
    What one app's call showed.

    Attributes:
        passed: Whether Tencent carried it out.
        is_transient: Whether trying again may help, as nothing is known to be wrong with the settings.
        code: Tencent's ErrorCode; None if there was no answer of Tencent's.
        explanation: What was seen, and how to fix it.

    """

    app: str
    passed: bool
    is_transient: bool
    code: int | None
    explanation: str


async def try_apps(apps: Sequence[AppCredentials], options: HttpOptions) -> list[TrialResult]:
    """Make one call for each app, all at the same time, and explain each. Raises SignatureError for an app that cannot sign."""
    client = Client(apps, options)
    try:
        results = await asyncio.gather(*(client.call(_OneAttempt(app.name)) for app in apps))
        return [await _explained(app, result, options) for app, result in zip(apps, results, strict=True)]
    finally:
        await client.aclose()


class _OneAttempt:
    """Allows one request, and no other whatever becomes of it."""

    def __init__(self, app: str) -> None:
        self._attempt = Attempt(
            call_id="check", number=1, app=app, endpoint=ENDPOINT, target="", body=BODY, members=0
        )

    async def next_attempt(self) -> Attempt:
        return self._attempt

    def may_send(self) -> bool:
        return True

    def finished(self, result: AttemptResult) -> bool:
        del result
        return False


async def _explained(app: AppCredentials, result: AttemptResult, options: HttpOptions) -> TrialResult:
    host = urlsplit(app.base_url).netloc
    code, verdict = result.error_code, result.verdict
    if verdict is Verdict.DONE:
        elapsed = (result.ended_at - result.sent_at) * 1000
        seen = f"{host} accepts key and administrator ({elapsed:.0f} ms)"
        return TrialResult(app.name, passed=True, is_transient=False, code=code, explanation=seen)
    if result.http_status is None or result.error == "too_long":
        text = await _why_no_answer(app, result, options)
        return TrialResult(app.name, passed=False, is_transient=True, code=None, explanation=text)
    if result.error is not None:
        status = result.http_status
        # What is no refusal at all comes from a stranger, who will go on.
        is_transient = verdict.is_transient and status >= 400
        mend = "try again in a moment" if is_transient and status < 500 else remedy(None, status)
        what = f"{host} answers with {result.error_info}: {mend}"
        return TrialResult(app.name, passed=False, is_transient=is_transient, code=None, explanation=what)
    said = f"Tencent answers {code}{f' ({result.error_info})' if result.error_info else ''}"
    what = f"{said}: {'try again in a moment' if verdict.is_transient else remedy(code)}"
    return TrialResult(app.name, passed=False, is_transient=verdict.is_transient, code=code, explanation=what)


async def _why_no_answer(app: AppCredentials, result: AttemptResult, options: HttpOptions) -> str:
    if result.error == "proxy":
        return result.error_info
    text = _TRANSPORT.get(result.error or "", _TRANSPORT["reset"])
    if result.error == "connect":
        if options.proxy is not None and app.base_url.startswith("https:"):
            text = _THROUGH_PROXY
        elif not await _has_name(app.base_url, options.connect_timeout):
            text = _NO_NAME
    return text.format(host=urlsplit(app.base_url).netloc, proxy=options.proxy)


async def _has_name(base_url: str, seconds: float) -> bool:
    """Return whether the host's name can be resolved in this time."""
    try:
        asked = asyncio.wrap_future(LOOKUPS.addresses(urlsplit(base_url).hostname or ""))
        await asyncio.wait_for(asked, seconds)
    except OSError:  # TimeoutError is one
        return False
    return True
