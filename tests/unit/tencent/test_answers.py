# Reading an answer: everything about it may be odd but its ErrorCode.

from __future__ import annotations

import gzip
import json
import time
from base64 import b64encode
from dataclasses import replace
from typing import TYPE_CHECKING
from zlib import compress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.domain.contract.outcomes import TEXT_BYTES
from worker.redaction import Redaction
from worker.tencent import answers
from worker.tencent.answers import Answer
from worker.tencent.client_options import REGIONS, AppCredentials, base_url
from worker.tencent.usersig import UserSigSigner

if TYPE_CHECKING:
    from pathlib import Path

APP = AppCredentials(
    "main", 1400000001, "administrator", "https://console.tim.qq.com", secret_key="0123abcd" * 8
)


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ('{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}', Answer(0, "", None)),
        ('{"ErrorCode":0}', Answer(0, "", None)),
        (' \r\n{"ErrorCode":10002,"ErrorInfo":"busy","RequestId":"a-1"}\n', Answer(10002, "busy", "a-1")),
        ('{"ErrorCode":0,"Response":{"RequestId":"inside"}}', Answer(0, "", "inside")),
        ('{"ErrorCode":0,"RequestId":"out","Response":{"RequestId":"inside"}}', Answer(0, "", "out")),
        ('{"ErrorCode":0,"Response":[1]}', Answer(0, "", None)),
        ('{"ErrorCode":0,"RequestId":7,"ErrorInfo":null}', Answer(0, "", None)),
        ('{"ErrorCode":0,"RequestId":""}', Answer(0, "", None)),
        ('{"ErrorCode":5,"ErrorInfo":{"why":"x"}}', Answer(5, "", None)),
        ('{"ErrorCode":-1,"Unknown":[[[]]]}', Answer(-1, "", None)),
    ],
)
def test_what_an_answer_says_is_read(body: str, answer: Answer) -> None:
    assert answers.read(body.encode()) == answer


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"0",
        b"{}",
        b'{"ErrorCode":null}',
        b'{"ErrorCode":"0"}',
        b'{"ErrorCode":true}',
        b'{"ErrorCode":0.5}',
        b'{"ErrorCode":1e99}',
        b'{"ErrorCode":123456789012345678901234567890}',
        b'{"errorcode":0}',
        b'{"ErrorCode":0',
        b'{"ErrorCode":0}{"ErrorCode":1}',
        b"<html>OK</html>",
        gzip.compress(b'{"ErrorCode":0}', mtime=0),
        b"[" * 60_000,
        b'{"ErrorCode":0,"a":' + b"[" * 60_000,
    ],
)
def test_what_has_no_integer_code_is_no_answer(body: bytes) -> None:
    assert answers.read(body) is None


def test_a_text_that_was_cut_inside_a_character_costs_no_success() -> None:
    body = '{"ErrorCode":0,"ErrorInfo":"ok é"}'.encode().replace("é".encode(), b"\xc3")

    assert answers.read(body) == Answer(0, "ok �", None)


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (rb'{"ErrorCode":10019,"ErrorInfo":"no user \ud83d"}', Answer(10019, "no user \ufffd", None)),
        (rb'{"ErrorCode":10019,"ErrorInfo":"\ude00 is not here"}', Answer(10019, "\ufffd is not here", None)),
        (rb'{"ErrorCode":0,"RequestId":"a","Echo":"\ud83dx"}', Answer(0, "", "a")),
        (rb'{"ErrorCode":0,"Response":{"RequestId":"a","Echo":"\ud83d"}}', Answer(0, "", "a")),
        (b'{"ErrorCode":10004,"ErrorInfo":"line 1\nline\t2"}', Answer(10004, "line 1\nline\t2", None)),
        (b'{"ErrorCode":0,"RequestId":"a","Cost":NaN}', Answer(0, "", "a")),
        (rb'{"ErrorCode":0,"ErrorInfo":"whole \ud83d\ude00 \\ud83d"}', Answer(0, "whole 😀 \\ud83d", None)),
    ],
)
def test_a_text_that_no_strict_reader_accepts_costs_no_answer(body: bytes, answer: Answer) -> None:
    """An echoed name that was cut inside an emoji made a refusal of one user an outage of the endpoint."""
    assert answers.read(body) == answer


@pytest.mark.parametrize(
    "body", ['{"ErrorCode":0,"ErrorInfo":"é"}'.encode(), b'{"ErrorCode":0,"ErrorInfo":"\xc3"}']
)
def test_a_byte_order_mark_costs_no_success(body: bytes) -> None:
    """A gateway that decodes and encodes again may put one in front: a call that was carried out counted as unanswered."""
    plain = answers.read(body)

    assert plain is not None
    assert answers.read(b"\xef\xbb\xbf" + body) == plain
    assert answers.describe_foreign(200, b"\xef\xbb\xbf<html>", None) == answers.describe_foreign(
        200, b"<html>", None
    )


@given(st.binary(max_size=200))
def test_no_bytes_are_too_strange_to_be_read(body: bytes) -> None:
    found = answers.read(body)

    assert found is None or isinstance(found.error_code, int)


@given(st.text(max_size=900), st.text(max_size=900))
def test_texts_are_never_longer_than_an_outcome_may_hold(info: str, request_id: str) -> None:
    found = answers.read(json.dumps({"ErrorCode": 1, "ErrorInfo": info, "RequestId": request_id}).encode())

    assert found is not None
    assert len(found.error_info.encode()) <= TEXT_BYTES
    assert len((found.request_id or "").encode()) <= TEXT_BYTES


@given(st.text(max_size=700), st.text(max_size=50))
def test_no_signature_passes_wherever_it_is(before: str, after: str) -> None:
    usersig = UserSigSigner(APP).signature().value
    text = json.dumps({"ErrorCode": 1, "ErrorInfo": f"{before}{usersig}{after}", "RequestId": usersig})

    found = answers.read(text.encode())

    assert found is not None
    assert usersig[10:60] not in found.error_info
    assert found.request_id == "[redacted]"


@pytest.mark.parametrize("before", range(TEXT_BYTES - 60, TEXT_BYTES))
def test_a_text_is_not_cut_inside_a_signature(before: int) -> None:
    """Half of a signature would no longer look like one, and pass."""
    text = json.dumps({"ErrorCode": 1, "ErrorInfo": "x" * before + UserSigSigner(APP).signature().value})

    found = answers.read(text.encode())

    assert found is not None
    assert "eJ" not in found.error_info


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("group not found", "group not found"),
        ("/v4/x?usersig=short&random=1", "/v4/x?usersig=[redacted]&random=1"),
        ("UserSig%3Dabc", "UserSig%3D[redacted]"),
        ('{"usersig=abc"}', '{"usersig=[redacted]"}'),
        ("the usersig is expired", "the usersig is expired"),
    ],
)
def test_only_signatures_are_scrubbed(text: str, scrubbed: str) -> None:
    found = answers.read(json.dumps({"ErrorCode": 1, "ErrorInfo": text}).encode())

    assert found is not None
    assert found.error_info == scrubbed


@pytest.mark.parametrize("level", range(10))
def test_a_signature_of_any_compression_is_hidden(level: int) -> None:
    """The signer's level is the library's choice: 0, 1 to 5, 6 and 7 to 9 begin differently."""
    usersig = b64encode(compress(b'{"TLS.ver":"2.0","TLS.sig":"0123456789"}' * 3, level)).decode()
    text = json.dumps({"ErrorCode": 1, "ErrorInfo": f"sign {usersig} is wrong"})

    found = answers.read(text.encode())

    assert found is not None
    assert found.error_info == "sign [redacted] is wrong"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("²", None),
        ("0", 0.0),
        (" 7 ", 7.0),
        ("9" * 400, 60.0),
        ("Sun, 15 Jun 2025 15:07:00 GMT", 20.0),
        ("Sun, 15 Jun 2025 15:06:00 GMT", 0.0),
        ("Sun, 15 Jun 2099 15:06:00 GMT", 60.0),
        ("Sun, 99 Jun 2025 15:06:00 GMT", None),
        ("Sun Jun 15 15:07:00 2025", 20.0),
        ("Sun, 15 Jun 2025 15:07:00 -0000", 20.0),
        ("Sunday, 15-Jun-25 15:07:00 GMT", 20.0),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "America/Los_Angeles"])
def test_a_retry_after_is_seconds_or_a_date(
    header: str | None, seconds: float | None, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert answers.retry_after(header, now=1_750_000_000.0, most=60.0) == seconds
    finally:
        monkeypatch.undo()
        time.tzset()


def test_every_region_has_an_address_of_its_own() -> None:
    addresses = [base_url(name) for name in REGIONS]

    assert len(set(addresses)) == 7
    assert all(address.startswith("https://") and not address.endswith("/") for address in addresses)
    assert base_url("china") == "https://console.tim.qq.com"
    assert base_url("tokyo") == "https://adminapijpn.im.qcloud.com"


def test_a_region_that_does_not_exist_is_no_address() -> None:
    with pytest.raises(KeyError):
        base_url("mars")


# -- what an answer repeats of us -----------------------------------------------------------------------------------------------


def kept_by_a_client(info: str) -> str:
    """Return what a client that signs with APP's key keeps of an ErrorInfo."""
    redaction = Redaction()
    signature = UserSigSigner(KEYED, redaction=redaction).signature().value
    text = info.replace("SIGNATURE", signature).replace("KEY", KEY)
    found = answers.read(json.dumps({"ErrorCode": 70003, "ErrorInfo": text}).encode(), redaction)
    assert found is not None
    return found.error_info


KEY = "5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e"
KEYED = AppCredentials("main", 1400000001, "administrator", "https://console.tim.qq.com", secret_key=KEY)


@pytest.mark.parametrize(
    ("info", "kept"),
    [
        ("check failed with KEY", "check failed with [redacted]"),
        ("sign of KEY and SIGNATURE", "sign of [redacted] and [redacted]"),
        ("xxSIGNATURE", "xx[redacted]"),
    ],
)
def test_a_key_or_signature_that_an_answer_repeats_is_not_kept(info: str, kept: str) -> None:
    assert kept_by_a_client(info) == kept


def test_a_part_of_a_signature_without_its_beginning_is_not_kept() -> None:
    redaction = Redaction()
    signature = UserSigSigner(KEYED, redaction=redaction).signature().value
    wrapped = "\n".join(signature[at : at + 19] for at in range(11, len(signature), 19))

    found = answers.read(json.dumps({"ErrorCode": 1, "ErrorInfo": f"got {wrapped} here"}).encode(), redaction)

    assert found == Answer(1, "got [redacted] here", None)


def test_a_key_that_has_come_into_use_later_is_hidden_from_then_on(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(KEY[::-1])
    redaction = Redaction()
    signer = UserSigSigner(replace(KEYED, secret_key=None, secret_key_file=file), redaction=redaction)
    file.write_text(KEY)

    assert signer.refused(1)

    for secret in (KEY, KEY[::-1], signer.signature().value):
        assert redaction.clean(f"with {secret[3:40]}") == "with [redacted]"


@pytest.mark.parametrize(
    "shape", ["usersig=" + "\\" * 65_000, "usersig" * 9_000, "eJx" * 20_000, "%25" * 20_000]
)
def test_a_long_text_is_cut_before_it_is_cleaned(shape: str) -> None:
    """64 kB of backslashes behind a name took sixteen seconds."""
    body = json.dumps({"ErrorCode": 1, "ErrorInfo": shape}).encode()
    began = time.process_time()

    found = answers.read(body, Redaction([KEY]))

    assert time.process_time() - began < 0.05
    assert found is not None
    assert len(found.error_info) <= TEXT_BYTES


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        (None, "nowhere"),
        ("", "another path of the same host"),
        ("?usersig=eJx", "another path of the same host"),
        ("https://user:usersig=eJx@login.example.com/", "login.example.com"),
        ("https://[::1]:80/", "::1:80"),
        ("https://[broken/", "an unreadable address"),
        ("https://host:port/", "an unreadable address"),
        ("https://a\x1b[31mb/", "an unreadable address"),
        ("https://xn--\u0416.example/", "an unreadable address"),
        (f"https://{'a' * 300}.example/", "an unreadable address"),
    ],
)
def test_of_a_redirects_address_only_a_plain_host_is_shown(location: str | None, shown: str) -> None:
    assert (
        answers.describe_foreign(302, b"", location)
        == f"HTTP 302 to {shown}: a proxy or gateway answers in Tencent's place"
    )


@given(st.text(), st.binary(), st.integers(200, 599))
def test_a_foreign_answer_is_described_in_a_short_text_whatever_it_is(
    location: str, body: bytes, status: int
) -> None:
    text = answers.describe_foreign(status, body, location)

    assert text.startswith(f"HTTP {status}")
    assert len(text) < 400
    assert text.isprintable()


@pytest.mark.parametrize(
    ("status", "body", "text"),
    [
        (101, b"", "HTTP 101: a proxy or gateway answers in Tencent's place"),
        (0, b'{"ErrorCode":0}', "HTTP 0: a proxy or gateway answers in Tencent's place"),
        (
            200,
            b'{"ErrorCode":4294967295}',
            "HTTP 200 with JSON without an ErrorCode that is valid: a proxy or gateway answers in Tencent's place",
        ),
        (502, b'{"ErrorCode":0}', "HTTP 502"),
    ],
)
def test_a_body_is_described_only_where_it_decides(status: int, body: bytes, text: str) -> None:
    assert answers.describe_foreign(status, body, None) == text
