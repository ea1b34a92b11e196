# UserSig: signatures of Tencent's own library are valid, every other one has its code.

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
import zlib

import pytest

from tests.unit.testing.simulator.calls import ADMIN, APP, KEY, signed
from worker.testing.simulator.signature import SignatureVerifier, SimulatedApp

NOW = time.time()


def check(usersig: str, *, identifier: str = ADMIN, wall: float = NOW, keys: tuple[str, ...] = (KEY,)) -> int:
    return SignatureVerifier(SimulatedApp(APP, keys)).check(usersig, identifier, wall)


def packed(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content)).decode().translate(str.maketrans("+/=", "*-_"))


def test_a_signature_of_tencents_library_passes() -> None:
    assert check(signed()) == 0


@pytest.mark.parametrize("identifier", ["ops@example.org", "管理员", "a b"])
def test_any_identifier_can_be_signed_for(identifier: str) -> None:
    assert check(signed(identifier=identifier), identifier=identifier) == 0


@pytest.mark.parametrize(
    ("usersig", "code"),
    [
        ("", 70002),
        ("no signature", 70003),
        (signed()[:-8], 70003),
        (signed().swapcase(), 70003),
        (packed(b"{}"), 70003),
        (packed(b"no json"), 70003),
        (packed(b" " * 10_000_000), 70003),
        (signed(key="another key"), 70009),
        (signed(identifier="somebody"), 70013),
        (signed(app=APP + 1), 70014),
    ],
)
def test_a_wrong_signature_has_its_code(usersig: str, code: int) -> None:
    assert check(usersig) == code


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"TLS.sig": "é"}, 70009),
        ({"TLS.sig": "群"}, 70009),
        ({"TLS.sig": "\0"}, 70009),
        ({"TLS.time": 10**300}, 70009),
        ({"TLS.sig": "\ud800"}, 70003),
        ({"TLS.identifier": "\udfff"}, 70003),
        ({"TLS.userbuf": "\ud800"}, 70003),
    ],
    ids=str,
)
def test_whatever_is_in_a_signature_it_has_a_code(changed: dict[str, object], code: int) -> None:
    """
    Python compares no texts in constant time that are not ASCII: the call was counted, and then neither answered nor logged.
    """
    content = {
        "TLS.ver": "2.0", "TLS.identifier": ADMIN, "TLS.sdkappid": APP, "TLS.time": 1, "TLS.expire": 1, "TLS.sig": "x",
    }  # fmt: skip

    assert check(packed(json.dumps(content | changed).encode())) == code


def test_a_signature_lasts_to_the_second_it_names() -> None:
    began = time.time()
    usersig = signed(expire=60)

    assert check(usersig, wall=began + 58) == 0
    assert check(usersig, wall=began + 62) == 70001


def test_a_cached_signature_still_expires() -> None:
    verifier, usersig = SignatureVerifier(SimulatedApp(APP, (KEY,))), signed(expire=60)

    assert [verifier.check(usersig, ADMIN, NOW), verifier.check(usersig, ADMIN, NOW + 3600)] == [0, 70001]


def test_while_a_key_is_rotated_both_keys_pass() -> None:
    assert check(signed(key="old"), keys=("new", "old")) == 0
    assert check(signed(key="new"), keys=("new", "old")) == 0


def test_what_the_signature_says_cannot_be_changed_afterwards() -> None:
    content = json.loads(
        zlib.decompress(base64.b64decode(signed(expire=60).translate(str.maketrans("*-_", "+/="))))
    )

    content["TLS.expire"] = 10**9

    assert check(packed(json.dumps(content).encode())) == 70009


def test_a_signature_with_user_data_covers_it() -> None:
    userbuf = base64.b64encode(b"data").decode()
    lines = f"TLS.identifier:{ADMIN}\nTLS.sdkappid:{APP}\nTLS.time:{int(NOW)}\nTLS.expire:60\nTLS.userbuf:{userbuf}\n"
    content = {
        "TLS.ver": "2.0", "TLS.identifier": ADMIN, "TLS.sdkappid": APP, "TLS.time": int(NOW), "TLS.expire": 60,
        "TLS.userbuf": userbuf,
        "TLS.sig": base64.b64encode(hmac.new(KEY.encode(), lines.encode(), hashlib.sha256).digest()).decode(),
    }  # fmt: skip

    assert check(packed(json.dumps(content).encode())) == 0
    assert check(packed(json.dumps({**content, "TLS.userbuf": ""}).encode())) == 70009


def test_neither_the_key_nor_a_signature_shows_in_a_repr() -> None:
    app = SimulatedApp(APP, (KEY,))

    assert KEY not in repr(app)
    assert KEY not in repr(SignatureVerifier(app))
