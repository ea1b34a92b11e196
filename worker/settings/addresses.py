# Hosts, servers and URLs: what is accepted where a setting is an address. Nothing is resolved or opened here.
#
# An address that only some parsers accept (one drops a line break, another encodes letters in its own way) would pass here
# and fail at the first command. So only what all of them read alike is allowed.

from __future__ import annotations

import re
from ipaddress import IPv6Address, ip_address
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
PROXIES: Final = ("http", "socks5", "socks5h")
"""The kinds of proxies that kafka-python supports (a test compares)."""
_NAME_BYTES: Final = 253
_LABEL: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_BEYOND_ASCII: Final = "write a name that is not ASCII in its encoded form, which begins with xn--"


def host(text: str) -> str:
    """Return the text if it is a host name or an IP address. Raises ValueError with the reason."""
    if not text:
        raise ValueError("the host is missing")
    if not text.isascii():
        raise ValueError(_BEYOND_ASCII)
    try:
        ip_address(text)
    except ValueError:
        labels = text.removesuffix(".").split(".")
        # A name that ends in a number is read as an IPv4 address by some parsers, and as a name by others.
        if len(text) > _NAME_BYTES or labels[-1].isdigit() or not all(map(_LABEL.fullmatch, labels)):
            raise ValueError("it is neither a host name nor an IP address") from None
        _check_encoded_labels(text)
    return text


def server(text: str) -> str:
    """Return the text if it is ``host:port``, with an IPv6 address in brackets. Raises ValueError with the reason."""
    name, _, port = text.rpartition(":")
    if name.startswith("[") and name.endswith("]"):
        _ipv6(name[1:-1])
    elif ":" in name:
        raise ValueError(
            "put the IPv6 address into brackets" if _is_ip(name) else "a server is host:port and nothing else"
        )
    else:
        host(name)
    _port(port)
    return text


def base_url(text: str) -> str:
    """
    Return the URL of an API without a slash at its end: scheme, host, an optional port, and nothing else.

    Raises ValueError with the reason.
    """
    parts = _split(text)
    if parts.scheme not in {"https", "http"}:
        raise ValueError("it begins with neither https:// nor http://")
    if "@" in parts.netloc:
        raise ValueError("it carries credentials")
    if parts.path.strip("/") or "?" in text or "#" in text:
        raise ValueError("something follows the port: the worker adds the path itself")
    _authority(parts)
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise ValueError(
            "the URL of a request carries an admin's signature, so plain http may only go to this machine"
        )
    return text.rstrip("/")


def token_url(text: str) -> str:
    """Return the text if it is the URL of a token endpoint. Raises ValueError with the reason."""
    parts = _split(text)
    if parts.scheme not in {"https", "http"}:
        raise ValueError("it begins with neither https:// nor http://")
    if "@" in parts.netloc:
        raise ValueError("it carries credentials")
    if "#" in text:
        raise ValueError("it has a fragment (#), which no server sees")
    _authority(parts)
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise ValueError("the request carries the client's secret, so plain http may only go to this machine")
    return text


def proxy(text: str) -> str:
    """Return the text if it is the URL of a proxy, perhaps with credentials. Raises ValueError with a reason that shows none."""
    parts = _split(text)
    if parts.scheme not in PROXIES:
        raise ValueError(f"it begins with none of {', '.join(f'{scheme}://' for scheme in PROXIES)}")
    if parts.path.strip("/") or "?" in text or "#" in text:
        raise ValueError("something follows the port")
    _authority(parts)
    if parts.port is None:
        raise ValueError("the port is missing")
    return text


def proxy_passwords(text: str) -> tuple[str, ...]:
    """
    Return the password in the URL of a proxy, as it is written there and percent-decoded; nothing if there is none.

    The text need not be a valid URL: what is refused must not be shown either.
    """
    before, at, _ = text.rpartition("@")
    user = re.sub(r"^(?:[A-Za-z0-9+.-]*:)?//", "", before) if at else ""
    password = user.partition(":")[2]
    return tuple(dict.fromkeys(each for each in (password, unquote(password)) if each))


def http_proxy(text: str) -> str:
    """Return the text if it is ``http://host:port``, the proxy of an HTTP client. Raises ValueError with a reason that shows no credentials."""
    parts = _split(text)
    if parts.scheme in {"socks", "socks4", "socks4a", *PROXIES[1:]}:
        raise ValueError("a SOCKS proxy is not supported here: give an HTTP proxy, which lets CONNECT pass")
    if parts.scheme == "https":
        raise ValueError(
            "TLS to the proxy itself is not supported: give http://; TLS to the API goes through it untouched"
        )
    if parts.scheme != "http":
        raise ValueError("it does not begin with http://")
    if "@" in parts.netloc:
        raise ValueError("put user:password into the file of http.proxy_credentials_file")
    if parts.path.strip("/") or "?" in text or "#" in text:
        raise ValueError("something follows the port")
    _authority(parts)
    if parts.port is None:
        raise ValueError("the port is missing")
    return text.rstrip("/")


def _split(text: str) -> SplitResult:
    # urlsplit silently drops line breaks, tabs, and blanks at the ends; the HTTP client's parser does not.
    if not text.isascii():
        raise ValueError(_BEYOND_ASCII)
    if any(not "!" <= character <= "~" for character in text):
        raise ValueError("it contains a blank, a line break or another control character")
    try:
        return urlsplit(text)
    except ValueError:
        raise ValueError("it is not a URL") from None


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
        raise ValueError("the brackets contain no IPv6 address") from None
    if address.scope_id is not None:
        raise ValueError("an IPv6 address with a zone (%) is not supported: give one without")


def _is_ip(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _check_encoded_labels(name: str) -> None:
    """Raise ValueError if a label that begins with xn-- does not decode to letters and digits."""
    try:
        decoded = name.lower().encode("ascii").decode("idna")
    except UnicodeError:
        decoded = ""
    if not decoded or not all(character.isalnum() or character in "-._" for character in decoded):
        raise ValueError("a part of its name begins with xn-- and is not a valid encoded name")
