# Hosts, servers and URLs: what may stand where an address is wanted. Nothing is resolved or opened here.
#
# An address that only one of several parsers takes (a line break that one drops, letters that one encodes in its own way)
# would pass here and fail at the first command, so what is allowed is what all of them read alike.

from __future__ import annotations

import re
from ipaddress import IPv6Address, ip_address
from typing import Final
from urllib.parse import SplitResult, urlsplit

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
PROXIES: Final = ("http", "socks5", "socks5h")
"""The kinds of proxies that kafka-python can speak to (a test compares)."""
_NAME_BYTES: Final = 253
_LABEL: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_BEYOND_ASCII: Final = "write a name that is not ASCII in its form that begins with xn--"


def host(text: str) -> str:
    """A name or an IP address. Raises ValueError with the reason."""
    if not text:
        raise ValueError("the host is missing")
    if not text.isascii():
        raise ValueError(_BEYOND_ASCII)
    try:
        ip_address(text)
    except ValueError:
        labels = text.removesuffix(".").split(".")
        # What ends in a number is read as an IPv4 address by some, and as a name by others.
        if len(text) > _NAME_BYTES or labels[-1].isdigit() or not all(map(_LABEL.fullmatch, labels)):
            raise ValueError("it holds no host name and no IP address") from None
        _decoded(text)
    return text


def server(text: str) -> str:
    """``host:port``, an IPv6 address in brackets. Raises ValueError with the reason."""
    name, _, port = text.rpartition(":")
    if name.startswith("[") and name.endswith("]"):
        _ipv6(name[1:-1])
    elif ":" in name:
        raise ValueError(
            "an IPv6 address stands in brackets" if _is_ip(name) else "a server is host:port, without more"
        )
    else:
        host(name)
    _port(port)
    return text


def base_url(text: str) -> str:
    """
    The address of an API: scheme, host, perhaps a port, and nothing else. Raises ValueError with the reason.
    """
    parts = _split(text)
    if parts.scheme not in {"https", "http"}:
        raise ValueError("it begins with neither https:// nor http://")
    if "@" in parts.netloc:
        raise ValueError("it carries credentials")
    if parts.path.strip("/") or "?" in text or "#" in text:
        raise ValueError("after the port there is something: the worker adds the path itself")
    _authority(parts)
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise ValueError(
            "the URL of a request carries an admin's signature, so plain http may only go to this machine"
        )
    return text.rstrip("/")


def proxy(text: str) -> str:
    """The URL of a proxy, which may carry credentials. Raises ValueError with a reason that shows none."""
    parts = _split(text)
    if parts.scheme not in PROXIES:
        raise ValueError(f"it begins with none of {', '.join(f'{scheme}://' for scheme in PROXIES)}")
    if parts.path.strip("/") or "?" in text or "#" in text:
        raise ValueError("after the port there is something")
    _authority(parts)
    if parts.port is None:
        raise ValueError("the port is missing")
    return text


def _split(text: str) -> SplitResult:
    # urlsplit drops line breaks, tabs, and blanks at the ends without a word; the parsers of requests do not.
    if not text.isascii():
        raise ValueError(_BEYOND_ASCII)
    if any(not "!" <= character <= "~" for character in text):
        raise ValueError("it has a blank, a line break or another control character in it")
    try:
        return urlsplit(text)
    except ValueError:
        raise ValueError("it is no URL") from None


def _authority(parts: SplitResult) -> None:
    name = parts.hostname or ""
    _, _, place = parts.netloc.rpartition("@")
    if place.startswith("["):
        _ipv6(name)
        rest = place.rpartition("]")[2]
    else:
        host(name)
        rest = place[len(name) :]
    if rest:
        _port(rest.removeprefix(":"))


def _port(text: str) -> None:
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 0 < int(text) < 65_536:
        raise ValueError("the port must be a number from 1 to 65535")


def _ipv6(text: str) -> None:
    try:
        address = IPv6Address(text)
    except ValueError:
        raise ValueError("in the brackets there is no IPv6 address") from None
    if address.scope_id is not None:
        raise ValueError("an IPv6 address with a zone (%) is not supported: give one without")


def _is_ip(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _decoded(name: str) -> None:
    """Raises ValueError when a part of a name begins with xn-- and does not stand for letters and digits."""
    try:
        decoded = name.lower().encode("ascii").decode("idna")
    except UnicodeError:
        decoded = ""
    if not decoded or not all(character.isalnum() or character in "-._" for character in decoded):
        raise ValueError("a part of its name that begins with xn-- is no encoded name")
