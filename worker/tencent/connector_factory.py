# How connections to Tencent are made: through which proxy, with which credentials, trusting which authorities.
#
# Files are read again for each new connection, if they have changed. One that cannot be used is reported, and what it held
# before goes on being used. Not here: what is sent (http_transport.py), and which settings are allowed (worker/settings).

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import aiohttp
import httpx
from aiohttp.abc import AbstractResolver, ResolveResult

from worker.errors import FileError
from worker.name_lookup import NameLookups
from worker.small_files import read_text
from worker.tls_file_problems import authority_problem

if TYPE_CHECKING:
    from worker.tencent.client_options import HttpOptions

CREDENTIALS_BYTES: Final = 65_536
"""The longest file of a proxy's credentials."""
UNUSABLE: Final = "file.unusable"
LOOKUPS: Final = NameLookups("api-names", socket.AI_ADDRCONFIG)
"""For all pools: many of them have the same host."""

Report = Callable[..., None]
"""``report(event, **fields)`` logs an event at error level."""
Held = TypeVar("Held")


class _ReloadedFile(Generic[Held]):
    """What a file holds, read again whenever the file has changed. ``read`` raises FileError if it holds nothing usable."""

    def __init__(self, path: str, read: Callable[[str], Held], setting: str, report: Report) -> None:
        self._path = path
        self._read = read
        self._setting = setting
        self._report = report
        self._seen: object = _file_state(path)
        try:
            self._held = read(path)
        except FileError as error:
            raise FileError(f"{setting} = {path}: {error}") from None

    def current(self) -> Held:
        """Return what the file holds now; what it held before, if that cannot be used."""
        now = _file_state(self._path)
        if now != self._seen:
            self._seen = now
            try:
                self._held = self._read(self._path)
            except FileError as error:
                remedy = f"mend the file that {self._setting} names: what it held before is used until then"
                self._report(UNUSABLE, file=self._path, reason=str(error), remedy=remedy)
        return self._held


def _file_state(path: str) -> object:
    try:
        status = Path(path).stat()
    except (OSError, ValueError) as error:
        return type(error)
    return status.st_ino, status.st_size, status.st_mtime_ns


def credentials_in(path: str) -> str:
    """Return user:password from the first line of a file. Raises FileError if there is none."""
    pair = read_text(path, CREDENTIALS_BYTES).partition("\n")[0].rstrip("\r")
    user, colon, _ = pair.partition(":")
    if not user.strip() or not colon:
        raise FileError("its first line is not user:password")
    if not pair.isprintable():
        raise FileError("its first line has a control character in it")
    return pair


def _basic(pair: str) -> str:
    return base64.b64encode(pair.encode()).decode()


def _context_trusting(path: str) -> ssl.SSLContext:
    problem = next(authority_problem("http.ca_file", path), None)
    if problem is not None:
        raise FileError(problem.remedy)
    return ssl.create_default_context(cafile=path)


class ConnectorFactory:
    """
    Makes the connector of each pool. Raises FileError if a file cannot be used at the start.

    ``learn`` is called with each password that is read, so that logs can hide it.
    """

    def __init__(self, options: HttpOptions, report: Report, learn: Callable[[str], None]) -> None:
        self._options = options
        self._tls: Callable[[], ssl.SSLContext]
        self._credentials: Callable[[], str | None] = lambda: None
        if options.ca_file is None:
            public = httpx.create_ssl_context()  # verifies; SSL_CERT_FILE names other authorities
            self._tls = lambda: public
        else:
            self._tls = _ReloadedFile(options.ca_file, _context_trusting, "http.ca_file", report).current
        if options.proxy_credentials_file is not None:

            def read(path: str) -> str:
                pair = credentials_in(path)
                learn(pair.partition(":")[2])
                learn(_basic(pair))
                return pair

            self._credentials = _ReloadedFile(
                options.proxy_credentials_file, read, "http.proxy_credentials_file", report
            ).current

    def session(self, request: type[aiohttp.ClientRequest], *, tls: bool) -> aiohttp.ClientSession:
        """Return a session with a pool of its own. Without ``tls``, to this machine itself, there is no proxy."""
        return aiohttp.ClientSession(
            connector=_Connector(self._options, self._tls, self._credentials),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent"),
            request_class=request,
            proxy=self._options.proxy if tls else None,
        )

    @property
    def tls(self) -> ssl.SSLContext:
        """The context for connections that are made now."""
        return self._tls()

    def explain(self, error: BaseException) -> str | None:
        """Return why a connection could not be made, with the remedy, if the proxy or the authorities are at fault."""
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            trusted = self._options.ca_file or "the public authorities (set http.ca_file for one of your own)"
            reason = getattr(error.certificate_error, "verify_message", None) or "no valid certificate"
            return f"the certificate of {error.host} is not valid for {trusted}: {reason}"
        if isinstance(error, aiohttp.ClientHttpProxyError):
            if error.status == 407:
                file = self._options.proxy_credentials_file
                where = (
                    "give http.proxy_credentials_file" if file is None else f"put the right ones into {file}"
                )
                return f"the proxy {self._options.proxy} wants other credentials (HTTP 407): {where}"
            return f"the proxy {self._options.proxy} does not connect (HTTP {error.status}): let it connect to the API's host"
        if isinstance(error, aiohttp.ClientProxyConnectionError):
            if isinstance(error.__cause__, aiohttp.ClientConnectorDNSError):
                return f"the name of the proxy {self._options.proxy} cannot be resolved: check http.proxy, and DNS"
            return f"the proxy {self._options.proxy} cannot be reached: check http.proxy"
        return None


class _Connector(aiohttp.TCPConnector):
    # aiohttp asks for the TLS context and for the proxy's credentials with each new connection: here both are what the files
    # hold now.

    def __init__(
        self,
        options: HttpOptions,
        tls: Callable[[], ssl.SSLContext],
        credentials: Callable[[], str | None],
    ) -> None:
        super().__init__(
            limit=options.max_connections,
            keepalive_timeout=options.keepalive,
            ssl=tls(),
            resolver=_Resolver(),
        )
        self._current_tls = tls
        self._current_credentials = credentials

    def _get_ssl_context(self, req: aiohttp.ClientRequest) -> ssl.SSLContext | None:
        return self._current_tls() if req.is_ssl() else None

    async def _create_connection(self, req: aiohttp.ClientRequest, *others: Any) -> Any:
        if req.proxy is not None and (pair := self._current_credentials()) is not None:
            headers: Any = {"Proxy-Authorization": f"Basic {_basic(pair)}"}
            req.proxy_headers = headers
        return await super()._create_connection(req, *others)

    async def _create_proxy_connection(self, req: aiohttp.ClientRequest, *others: Any) -> Any:
        try:
            return await super()._create_proxy_connection(req, *others)
        except aiohttp.ClientConnectorDNSError as error:
            # It looks as if the API had no address, for which nobody has asked: the proxy has none.
            raise aiohttp.ClientProxyConnectionError(req.connection_key, error.os_error) from error


class _Resolver(AbstractResolver):
    # aiohttp's own uses the loop's threads. uvloop has four for all names, and its end waits for each.

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002 - our connectors ask for any
    ) -> list[ResolveResult]:
        addresses = await asyncio.wrap_future(LOOKUPS.addresses(host))
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        pass
