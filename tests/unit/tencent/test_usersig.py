# The signatures: when there is a new one, when a refusal is the end, and that what is made can be verified.

import base64
import hashlib
import hmac
import json
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from worker.errors import SignatureError
from worker.tencent.options import App
from worker.tencent.usersig import FORCED_EVERY, LOCK, Signer

if TYPE_CHECKING:
    from worker.domain.effects import Notice

KEY = "5bd2850f" * 8
OTHER_KEY = "aa11bb22" * 8
DAY = 86_400.0
APP = App("main", 1400000001, "administrator", "https://console.tim.qq.com", secret_key=KEY)


@dataclass(slots=True)
class Clock:
    """
    Wall time and monotonic time, which pass together unless a test sets the wall clock.
    """

    wall: float = 1_750_000_000.0
    monotonic: float = 500.0

    def passes(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds


@dataclass(slots=True)
class Bench:
    """
    A signer, its clock and what it told.
    """

    app: App = APP
    clock: Clock = field(default_factory=Clock)
    notices: "list[Notice]" = field(default_factory=list)
    signer: Signer = field(init=False)

    def __post_init__(self) -> None:
        self.signer = Signer(
            self.app,
            clock=lambda: self.clock.wall,
            timer=lambda: self.clock.monotonic,
            on_event=self.notices.append,
        )

    @property
    def serial(self) -> int:
        return self.signer.signature().serial

    @property
    def events(self) -> list[str]:
        return [notice.event for notice in self.notices]


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def filed(tmp_path: Path) -> Bench:
    path = tmp_path / "key"
    path.write_text(f"{KEY}\n")
    return Bench(replace(APP, secret_key=None, secret_key_file=path))


def opened(usersig: str) -> dict[str, object]:
    """
    What stands in a UserSig, read without the library that made it.
    """
    packed = base64.b64decode(usersig.replace("*", "+").replace("-", "/").replace("_", "="), validate=True)
    content: dict[str, object] = json.loads(zlib.decompress(packed))
    return content


def made_with(usersig: str, key: str) -> bool:
    content = opened(usersig)
    lines = "".join(
        f"{name}:{content[name]}\n" for name in ("TLS.identifier", "TLS.sdkappid", "TLS.time", "TLS.expire")
    )
    digest = hmac.new(key.encode(), lines.encode(), hashlib.sha256).digest()
    return base64.b64encode(digest).decode() == content["TLS.sig"]


def renew(bench: Bench) -> int:
    """
    Have the signature in use refused and renewed by force; the new serial.
    """
    assert bench.signer.refused(bench.serial)
    return bench.serial


# What a signature is


def test_a_signature_is_one_that_tencent_can_verify(bench: Bench) -> None:
    value = bench.signer.signature().value

    content = opened(value)
    assert (content["TLS.identifier"], content["TLS.sdkappid"]) == ("administrator", 1400000001)
    assert (content["TLS.expire"], content["TLS.ver"]) == (2 * DAY, "2.0")
    assert made_with(value, KEY)
    assert not made_with(value, OTHER_KEY)


def test_an_identifier_in_any_alphabet_is_signed_as_it_is() -> None:
    value = Bench(replace(APP, identifier="管理员+1")).signer.signature().value

    assert opened(value)["TLS.identifier"] == "管理员+1"
    assert made_with(value, KEY)


@pytest.mark.parametrize(
    "broken",
    [
        {"sdk_app_id": 0},
        {"sdk_app_id": -1},
        {"sdk_app_id": 2**32},
        {"sdk_app_id": True},
        {"sdk_app_id": "1400000001"},
        {"sdk_app_id": 1400000001.0},
        {"identifier": ""},
        {"identifier": "admin\n"},
        {"identifier": "ad\x00min"},
        {"identifier": " admin"},
        {"identifier": "é" * 17},
        {"secret_key": ""},
        {"secret_key": f"{KEY}\n"},
        {"secret_key": f" {KEY}"},
        {"secret_key": "schlüssel"},
        {"secret_key": None},
        {"secret_key_file": Path("/nowhere/key")},
        {"secret_key": None, "secret_key_file": Path("/nowhere/key")},
        {"lifetime": 0.0},
        {"lifetime": 3600.5},
        {"lifetime": float("nan")},
        {"lifetime": 51 * 365 * DAY},
    ],
    ids=str,
)
def test_input_that_would_give_an_invalid_signature_is_refused_at_the_start(
    broken: dict[str, object],
) -> None:
    """The library validates nothing: each of these would be signed, and every call refused."""
    with pytest.raises(SignatureError) as caught:
        Signer(replace(APP, **broken))  # type: ignore[arg-type]

    assert KEY not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"  \n", b"two words", b"a\nb", b"\xff\xfe\x00", b"x" * 5000])
def test_a_key_file_without_a_key_is_refused_at_the_start(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)

    with pytest.raises(SignatureError, match=str(path)):
        Signer(replace(APP, secret_key=None, secret_key_file=path))


def test_neither_the_key_nor_a_signature_is_ever_shown(filed: Bench) -> None:
    renew(filed)
    signed = filed.signer.signature()

    shown = " ".join(
        [repr(filed.app), repr(APP), repr(signed), repr(filed.signer), str(filed.notices), str(signed)]
    )

    assert "administrator" in shown
    assert KEY not in shown
    assert signed.value not in shown


# Renewal


def test_a_signature_is_used_for_half_of_its_life(bench: Bench) -> None:
    first = bench.signer.signature()

    bench.clock.passes(DAY - 1)
    assert bench.signer.signature() is first
    bench.clock.passes(1)
    assert bench.signer.signature().serial == first.serial + 1


def test_a_signature_that_is_used_has_always_a_day_to_live(bench: Bench) -> None:
    for _ in range(50):
        bench.clock.passes(7_000)
        bench.signer.signature()
        assert bench.signer.expires_in() > DAY


def test_age_and_expiry_are_told(bench: Bench) -> None:
    bench.clock.passes(600)

    assert (bench.signer.age(), bench.signer.expires_in()) == (600, 2 * DAY - 600)


def test_a_clock_that_is_set_back_makes_a_new_signature(bench: Bench) -> None:
    """Until then Tencent would see a signature from the future."""
    first = bench.serial

    bench.clock.wall -= 3600

    assert bench.serial == first + 1
    assert bench.serial == first + 1


# Refusals


def test_the_first_refusal_is_answered_with_a_new_signature(bench: Bench) -> None:
    first = bench.serial

    assert bench.signer.refused(first)

    assert bench.serial == first + 1
    assert bench.notices[-1].fields == {"app": "main", "serial": first + 1, "forced": True}


def test_a_signature_that_is_refused_after_the_forced_renewal_is_the_end(bench: Bench) -> None:
    forced = renew(bench)

    bench.clock.passes(3600)

    assert not bench.signer.refused(forced)
    assert bench.serial == forced


def test_refusals_of_older_signatures_go_again_and_make_nothing_new(bench: Bench) -> None:
    old = bench.serial
    forced = renew(bench)

    assert all(bench.signer.refused(old) for _ in range(200))

    assert bench.serial == forced


def test_a_forced_signature_that_was_accepted_may_be_refused_later(bench: Bench) -> None:
    forced = renew(bench)
    bench.signer.accepted(forced)
    bench.clock.passes(3600)

    assert bench.signer.refused(forced)

    assert bench.serial == forced + 1


def test_an_older_signature_that_is_accepted_proves_nothing_for_the_new_one(bench: Bench) -> None:
    old = bench.serial
    forced = renew(bench)

    bench.signer.accepted(old)

    assert not bench.signer.refused(forced)


def test_a_signature_from_a_normal_renewal_may_be_refused_once(bench: Bench) -> None:
    renew(bench)
    bench.clock.passes(DAY)
    normal = bench.serial

    assert bench.signer.refused(normal)
    assert not bench.signer.refused(bench.serial)


def test_a_refusal_of_the_signature_before_a_normal_renewal_is_not_the_end(bench: Bench) -> None:
    before = renew(bench)
    bench.clock.passes(DAY)
    after = bench.serial

    assert bench.signer.refused(before)
    assert bench.serial == after


def test_forced_renewals_are_seconds_apart_even_when_refusals_alternate_with_successes(bench: Bench) -> None:
    serials = set()
    for _ in range(100):
        serial = bench.serial
        serials.add(serial)
        bench.signer.accepted(serial)
        assert bench.signer.refused(serial)
        bench.clock.passes(0.1)

    assert len(serials) <= 2 + 10 / FORCED_EVERY


# The lock of 70050


def test_nothing_is_signed_by_force_while_the_app_is_locked_and_then_at_once(bench: Bench) -> None:
    first = bench.serial
    bench.signer.lock()

    bench.clock.passes(LOCK - 1)
    assert bench.signer.refused(first)
    bench.signer.probe()
    assert bench.serial == first
    bench.clock.passes(1)

    assert [bench.serial, bench.serial] == [first + 1, first + 1]
    assert not bench.signer.refused(first + 1)


def test_each_further_lock_starts_the_minute_anew(bench: Bench) -> None:
    first = bench.serial
    bench.signer.lock()
    bench.clock.passes(LOCK - 1)
    bench.signer.lock()

    bench.clock.passes(LOCK - 1)
    assert bench.serial == first
    bench.clock.passes(1)
    assert bench.serial == first + 1


def test_a_wall_clock_that_is_set_does_not_lengthen_the_lock(bench: Bench) -> None:
    first = bench.serial
    bench.signer.lock()

    bench.clock.passes(LOCK)
    bench.clock.wall -= 10 * DAY

    assert bench.serial == first + 1


# The key's file


def test_the_key_may_end_with_a_line_break_in_its_file(filed: Bench) -> None:
    assert made_with(filed.signer.signature().value, KEY)


def test_a_refusal_reads_the_key_again_before_it_signs(filed: Bench) -> None:
    first = filed.serial
    _write(filed, OTHER_KEY)

    assert filed.signer.refused(first)

    assert made_with(filed.signer.signature().value, OTHER_KEY)
    assert filed.events == ["signature.key_changed", "signature.renewed"]


def test_a_new_key_counts_even_after_a_forced_renewal_with_the_old_one(filed: Bench) -> None:
    """The rotation may reach Tencent before it reaches the file."""
    forced = renew(filed)
    _write(filed, OTHER_KEY)

    assert filed.signer.refused(forced)

    assert made_with(filed.signer.signature().value, OTHER_KEY)


def test_rotations_in_a_row_are_followed_at_once(filed: Bench) -> None:
    for key in (OTHER_KEY, KEY, OTHER_KEY):
        _write(filed, key)
        assert filed.signer.refused(filed.serial)
        assert made_with(filed.signer.signature().value, key)


def test_a_normal_renewal_takes_the_key_that_is_in_the_file_by_then(filed: Bench) -> None:
    _write(filed, OTHER_KEY)
    filed.clock.passes(DAY)

    assert made_with(filed.signer.signature().value, OTHER_KEY)


def test_a_probe_reads_the_key_and_signs_anew(filed: Bench) -> None:
    forced = renew(filed)
    assert not filed.signer.refused(forced)
    _write(filed, OTHER_KEY)

    filed.signer.probe()

    assert made_with(filed.signer.signature().value, OTHER_KEY)


def test_probes_with_one_key_sign_anew_only_every_few_seconds(bench: Bench) -> None:
    first = bench.serial
    for _ in range(11):
        bench.signer.probe()
        bench.clock.passes(1)

    assert bench.serial == first + 3


def test_a_probe_that_is_refused_is_still_the_end(bench: Bench) -> None:
    bench.signer.probe()

    assert not bench.signer.refused(bench.serial)


def test_a_verdict_on_the_key_says_nothing_of_a_key_that_came_later(filed: Bench) -> None:
    first = filed.serial
    assert not filed.signer.outdated(first)
    _write(filed, OTHER_KEY)

    assert filed.signer.outdated(first)
    assert filed.signer.outdated(first)

    assert not filed.signer.outdated(filed.serial)
    assert made_with(filed.signer.signature().value, OTHER_KEY)


def test_a_new_key_waits_for_the_end_of_a_lock(filed: Bench) -> None:
    first = filed.serial
    filed.signer.lock()
    _write(filed, OTHER_KEY)

    assert filed.signer.refused(first)
    assert not filed.signer.outdated(first)
    filed.signer.probe()
    assert filed.serial == first
    filed.clock.passes(LOCK)

    assert made_with(filed.signer.signature().value, OTHER_KEY)


def test_what_is_signed_after_a_lock_is_signed_with_the_key_of_then(filed: Bench) -> None:
    filed.signer.lock()
    _write(filed, OTHER_KEY)
    filed.clock.passes(LOCK)

    assert made_with(filed.signer.signature().value, OTHER_KEY)


@pytest.mark.parametrize("content", [b"", b"\n", b"not a key", None])
def test_a_key_file_that_becomes_unusable_changes_nothing_and_is_told(
    filed: Bench, content: bytes | None
) -> None:
    path = filed.app.secret_key_file
    assert path is not None
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)

    assert not filed.signer.reload()
    assert filed.signer.refused(filed.serial)

    assert made_with(filed.signer.signature().value, KEY)
    assert filed.notices[0].event == "signature.key_unreadable"
    assert filed.notices[0].level == "warning"
    assert str(path) in str(filed.notices[0].fields["reason"])


def test_a_key_that_stands_in_the_settings_is_never_read_again(bench: Bench) -> None:
    assert not bench.signer.reload()
    assert bench.events == []


def _write(bench: Bench, key: str) -> None:
    path = bench.app.secret_key_file
    assert path is not None
    path.write_text(f"{key}\n")
