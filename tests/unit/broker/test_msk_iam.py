# The token for Amazon MSK: judged by an independent signer, which is itself judged by AWS's documented examples.

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from botocore.credentials import Credentials

from worker.broker.error_mapping import CredentialError
from worker.broker.msk_iam import LIFETIME_SECONDS, fetcher, signed

if TYPE_CHECKING:
    from pathlib import Path

ACCESS_KEY: Final = "AKIAIOSFODNN7EXAMPLE"
SECRET_KEY: Final = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
REGION: Final = "eu-central-1"


def derived_key(secret: str, date: str, region: str, service: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key


def signature(url: str, secret: str, payload: str) -> str:
    """The signature of a presigned GET, of all its parameters but the signature (AWS: Create a signed AWS API request)."""
    parts = urlsplit(url)
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    scope = given["X-Amz-Credential"].partition("/")[2]
    date, region, service, _ = scope.split("/")
    query = "&".join(
        f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}"
        for name, value in sorted(given.items())
        if name != "X-Amz-Signature"
    )
    request = f"GET\n{parts.path}\n{query}\nhost:{parts.netloc}\n\nhost\n{payload}"
    to_sign = (
        f"AWS4-HMAC-SHA256\n{given['X-Amz-Date']}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    )
    return hmac.new(derived_key(secret, date, region, service), to_sign.encode(), hashlib.sha256).hexdigest()


def test_the_judge_derives_the_key_of_aws_s_example() -> None:
    """AWS: Examples of how to derive a signing key for Signature Version 4."""
    key = derived_key("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "20120215", "us-east-1", "iam")

    assert key.hex() == "f4780e2d9f65fa895f9c67b32ce1baf0b0d8a43505a000a1a9e090d414db404d"


def test_the_judge_signs_the_presigned_url_of_aws_s_example() -> None:
    """AWS: Authenticating Requests: Using Query Parameters (AWS Signature Version 4)."""
    url = (
        "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256"
        f"&X-Amz-Credential={ACCESS_KEY}%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
        "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
    )

    assert (
        signature(url, SECRET_KEY, "UNSIGNED-PAYLOAD")
        == "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )


@pytest.mark.parametrize("session", [None, "a/session+token=="])
def test_a_token_is_a_presigned_url_that_the_judge_would_sign_alike(session: str | None) -> None:
    token = signed(Credentials(ACCESS_KEY, SECRET_KEY, session), REGION)

    assert "=" not in token
    url = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
    bare, _, agent = url.rpartition("&User-Agent=")
    given = dict(parse_qsl(urlsplit(bare).query))
    assert agent == "moderation-worker"
    assert bare.startswith(f"https://kafka.{REGION}.amazonaws.com/?")
    assert given["Action"] == "kafka-cluster:Connect"
    assert given["X-Amz-Algorithm"] == "AWS4-HMAC-SHA256"
    assert given["X-Amz-Expires"] == str(LIFETIME_SECONDS)
    assert given["X-Amz-SignedHeaders"] == "host"
    assert given.get("X-Amz-Security-Token") == session
    date = given["X-Amz-Date"][:8]
    assert given["X-Amz-Credential"] == f"{ACCESS_KEY}/{date}/{REGION}/kafka-cluster/aws4_request"
    assert given["X-Amz-Signature"] == signature(bare, SECRET_KEY, hashlib.sha256(b"").hexdigest())


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without any AWS credentials; the file that would hold some."""
    for name in (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_PROFILE",
        "AWS_ROLE_ARN",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    return tmp_path / "credentials"


def test_a_machine_without_credentials_is_an_error_until_it_has_some(nobody: Path) -> None:
    fetch = fetcher(REGION)
    with pytest.raises(CredentialError, match=r"finds no credentials.*give the worker AWS credentials"):
        fetch()
    nobody.write_text(f"[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n")

    token = fetch()

    assert token.lifetime == LIFETIME_SECONDS
    assert SECRET_KEY not in token.value


def test_a_profile_that_does_not_exist_is_an_error(nobody: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody.write_text("[default]\n")
    monkeypatch.setenv("AWS_PROFILE", "another")

    with pytest.raises(CredentialError, match=r"AWS gives no credentials \(ProfileNotFound\)"):
        fetcher(REGION)()
