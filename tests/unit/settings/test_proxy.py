# The proxy and the authorities for Tencent's side: what is refused, and that no credentials are shown.

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.certificate import self_signed
from tests.unit.settings.environment import load, minimal, problems
from worker.runtime.options_from_settings import http_options
from worker.settings import secrets_of
from worker.settings.addresses import proxy_passwords

if TYPE_CHECKING:
    from pathlib import Path

PROXY = "http://proxy.example:3128"
PASSWORD = "hunter2-hunter2-hunter2"


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    file = tmp_path / "credentials"
    file.write_text(f"worker:{PASSWORD}\r\n")
    return file


def test_a_proxy_with_its_credentials_and_authorities_reaches_the_client(
    credentials: Path, tmp_path: Path
) -> None:
    authority = tmp_path / "ca.crt"
    authority.write_text(self_signed()[0])
    http = {"proxy": PROXY, "proxy_credentials_file": str(credentials), "ca_file": str(authority)}
    settings = load(minimal(http=http))
    options = http_options(settings)

    assert (options.proxy, options.proxy_credentials_file, options.ca_file) == (
        PROXY,
        str(credentials),
        str(authority),
    )
    assert PASSWORD in secrets_of(settings)


@pytest.mark.parametrize(
    ("proxy", "says"),
    [
        (f"http://worker:{PASSWORD}@proxy.example:3128", "http.proxy_credentials_file"),
        ("socks5://proxy.example:1080", "a SOCKS proxy is not supported here: give an HTTP proxy"),
        ("socks5h://proxy.example:1080", "a SOCKS proxy is not supported here"),
        ("socks4://proxy.example:1080", "a SOCKS proxy is not supported here"),
        ("https://proxy.example:3128", "TLS to the proxy itself is not supported"),
        ("proxy.example:3128", "does not begin with http://"),
        ("http://proxy.example", "the port is missing"),
        ("http://proxy.example:0", "the port must be a number"),
        ("http://proxy.example:3128/path", "something follows the port"),
        ("http://proxy.example:3128?x", "something follows the port"),
        ("http://pro xy:3128", "blank"),
        ("http://[fe80::1%25eth0]:3128", "zone"),
        ("", "does not begin with http://"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_refused_with_the_reason(proxy: str, says: str) -> None:
    found = problems(minimal(http={"proxy": proxy}))

    assert list(found) == ["http.proxy"]
    assert says in str(found["http.proxy"])
    assert PASSWORD not in str(found["http.proxy"])


@pytest.mark.parametrize("proxy", ["http://[2001:db8::1]:3128", "http://127.0.0.1:1/", "http://[::1]:3128"])
def test_an_address_of_either_kind_is_a_proxy(proxy: str) -> None:
    assert problems(minimal(http={"proxy": proxy})) == {}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "empty"),
        ("\nworker:secret", "empty"),
        ("worker", "user:password"),
        (":secret", "user:password"),
        ("worker:se\x07cret", "user:password"),
    ],
)
def test_a_file_without_user_and_password_is_refused(credentials: Path, content: str, says: str) -> None:
    credentials.write_text(content)

    found = problems(minimal(http={"proxy": PROXY, "proxy_credentials_file": str(credentials)}))

    assert list(found) == ["http.proxy_credentials_file"]
    assert says in found["http.proxy_credentials_file"].remedy


def test_credentials_without_a_proxy_have_no_effect_and_are_refused(credentials: Path) -> None:
    found = problems(minimal(http={"proxy_credentials_file": str(credentials)}))

    assert "set http.proxy" in found["http.proxy_credentials_file"].remedy


@pytest.mark.parametrize("content", ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_an_authority_that_is_no_certificate_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "ca.crt"
    file.write_text(content)

    assert list(problems(minimal(http={"ca_file": str(file)}))) == ["http.ca_file"]
    assert list(problems(minimal(http={"ca_file": f"{tmp_path}/none"}))) == ["http.ca_file"]


@pytest.mark.parametrize(
    "url", [f"//user:{PASSWORD}@localhost:1", f"http://user:{PASSWORD}@proxy", f"user:{PASSWORD}@proxy:1"]
)
def test_a_file_with_the_url_of_kafkas_proxy_is_judged_like_the_url_itself(tmp_path: Path, url: str) -> None:
    file = tmp_path / "proxy"
    file.write_text(f"{url}\n")

    found = problems(minimal(kafka={"common": {"proxy_url_file": str(file)}}))

    assert list(found) == ["kafka.common.proxy_url_file"]
    assert "put socks5://host:port" in found["kafka.common.proxy_url_file"].remedy
    assert PASSWORD not in str(found["kafka.common.proxy_url_file"])


def test_a_file_with_a_usable_url_of_kafkas_proxy_is_taken(tmp_path: Path) -> None:
    file = tmp_path / "proxy"
    file.write_text(f"http://user:{PASSWORD}@proxy.example:3128\r\n")

    assert problems(minimal(kafka={"common": {"proxy_url_file": str(file)}})) == {}


@pytest.mark.parametrize(
    ("url", "passwords"),
    [
        ("http://proxy:1", ()),
        ("http://user@proxy:1", ()),
        ("http://user:@proxy:1", ()),
        ("http://user:secret@proxy:1", ("secret",)),
        ("http://user:se%40c:ret@proxy:1", ("se%40c:ret", "se@c:ret")),
        ("//user:secret@proxy:1", ("secret",)),
        ("user:se/c@ret@proxy:1", ("se/c@ret",)),
        ("http://user:se//cret@proxy:1", ("se//cret",)),
    ],
)
def test_the_password_is_found_in_a_proxys_url_though_it_is_no_valid_one(
    url: str, passwords: tuple[str, ...]
) -> None:
    assert proxy_passwords(url) == passwords
