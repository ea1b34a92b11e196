# The signatures: when there is a new one, when a refusal is the end, and that what is made can be verified.

from __future__ import annotations

from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from tests.unit.tencent.signing import APP, DAY, KEY, OTHER_KEY, Bench, made_with, opened, renew
from worker.errors import SignatureError
from worker.redaction import HIDDEN, Redaction
from worker.tencent.usersig import FORCED_EVERY, UserSigSigner

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
        {"secret_key": ""},
        {"secret_key": f"{KEY}\n"},
        {"secret_key": f" {KEY}"},
        {"secret_key": "schlüssel"},
        {"secret_key": None, "secret_key_file": Path("/nowhere/key")},
    ],
    ids=str,
)
def test_input_that_would_give_an_invalid_signature_is_refused_at_the_start(
    broken: dict[str, object],
) -> None:
    """The library validates nothing: each of these would be signed, and every call refused."""
    with pytest.raises(SignatureError) as caught:
        UserSigSigner(replace(APP, **broken))  # type: ignore[arg-type]

    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"  \n", b"two words", b'"quoted"', b"a\nb", b"\xff\xfe\x00", b"x" * 5000]
)
def test_a_key_file_without_a_key_is_refused_at_the_start(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)

    with pytest.raises(SignatureError, match=str(path)):
        UserSigSigner(replace(APP, secret_key=None, secret_key_file=path))


@pytest.mark.parametrize("content", [b"", b"  \n"])
def test_an_empty_key_file_is_called_empty(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)

    with pytest.raises(SignatureError, match=r"is empty$"):
        UserSigSigner(replace(APP, secret_key=None, secret_key_file=path))


def test_neither_the_key_nor_a_signature_is_ever_shown(filed: Bench) -> None:
    renew(filed)
    signed = filed.signer.signature()

    shown = " ".join(
        [repr(filed.app), repr(APP), repr(signed), repr(filed.signer), str(filed.logged), str(signed)]
    )

    assert "administrator" in shown
    assert KEY not in shown
    assert signed.value not in shown


# Renewal


def test_the_signature_in_use_of_one_app_stays_hidden_however_often_another_signs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    redaction, days = Redaction(), count(1)
    used = UserSigSigner(APP, redaction=redaction).signature().value
    monkeypatch.setattr("time.time", lambda: next(days) * 10.0 * DAY)
    other = UserSigSigner(replace(APP, name="second"), lambda: next(days) * 10.0 * DAY, redaction=redaction)

    made = {other.signature().value for _ in range(40)}

    assert len(made) == 40
    assert redaction.clean(f"<{used[-30:]}>") == f"<{HIDDEN}>"


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


def test_age_and_expiry_are_known(bench: Bench) -> None:
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
    assert bench.logged[-1].fields == {"app": "main", "serial": first + 1, "forced": True}


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
