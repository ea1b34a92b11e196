# The signatures under a lock, and under a key that changes in its file.


from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.unit.tencent.signing import APP, DAY, KEY, OTHER_KEY, made_with, renew, write_key
from worker.domain.contract.error_codes import LOCK_SECONDS
from worker.redaction import Redaction
from worker.tencent.usersig import FORCED_EVERY, UserSigSigner

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.tencent.signing import Bench
    from worker.domain.effects import LogEvent

# The lock of 70050


def test_nothing_is_signed_by_force_while_the_app_is_locked_and_then_at_once(bench: Bench) -> None:
    first = bench.serial
    bench.signer.lock()

    bench.clock.passes(LOCK_SECONDS - 1)
    assert bench.signer.refused(first)
    bench.signer.refresh_for_probe()
    assert bench.serial == first
    bench.clock.passes(1)

    assert [bench.serial, bench.serial] == [first + 1, first + 1]
    assert not bench.signer.refused(first + 1)


def test_a_probe_after_a_lock_renews_the_signature_once(bench: Bench) -> None:
    first = bench.serial
    bench.signer.lock()
    bench.clock.passes(LOCK_SECONDS)

    bench.signer.refresh_for_probe()

    assert [bench.serial, bench.serial] == [first + 1, first + 1]


def test_each_further_lock_starts_the_minute_again(bench: Bench) -> None:
    first = bench.serial
    bench.signer.lock()
    bench.clock.passes(LOCK_SECONDS - 1)
    bench.signer.lock()

    bench.clock.passes(LOCK_SECONDS - 1)
    assert bench.serial == first
    bench.clock.passes(1)
    assert bench.serial == first + 1


def test_a_wall_clock_that_is_set_does_not_lengthen_the_lock(bench: Bench) -> None:
    first = bench.serial
    bench.signer.lock()

    bench.clock.passes(LOCK_SECONDS)
    bench.clock.wall -= 10 * DAY

    assert bench.serial == first + 1


# The key's file


def test_the_key_may_end_with_a_line_break_in_its_file(filed: Bench) -> None:
    assert made_with(filed.signer.signature().value, KEY)


def test_a_refusal_reads_the_key_again_before_it_signs(filed: Bench) -> None:
    first = filed.serial
    write_key(filed, OTHER_KEY)

    assert filed.signer.refused(first)

    assert made_with(filed.signer.signature().value, OTHER_KEY)
    assert filed.events == ["signature.key_changed", "signature.renewed"]


def test_a_new_key_is_hidden_before_anything_is_logged_of_it(tmp_path: Path) -> None:
    path, redaction, logged = tmp_path / "key", Redaction(), []
    path.write_text(KEY)

    def log(event: LogEvent) -> None:
        logged.append((event.event, redaction.clean(OTHER_KEY)))

    app = replace(APP, secret_key=None, secret_key_file=path)
    signer = UserSigSigner(app, notice=log, redaction=redaction)
    path.write_text(OTHER_KEY)

    assert signer.reload()
    assert logged == [("signature.key_changed", "[redacted]")]


def test_a_new_key_counts_even_after_a_forced_renewal_with_the_old_one(filed: Bench) -> None:
    """The rotation may reach Tencent before it reaches the file."""
    forced = renew(filed)
    write_key(filed, OTHER_KEY)

    assert filed.signer.refused(forced)

    assert made_with(filed.signer.signature().value, OTHER_KEY)


def test_rotations_in_a_row_are_followed_at_once(filed: Bench) -> None:
    for key in (OTHER_KEY, KEY, OTHER_KEY):
        write_key(filed, key)
        assert filed.signer.refused(filed.serial)
        assert made_with(filed.signer.signature().value, key)


def test_a_normal_renewal_takes_the_key_that_is_in_the_file_by_then(filed: Bench) -> None:
    write_key(filed, OTHER_KEY)
    filed.clock.passes(DAY)

    assert made_with(filed.signer.signature().value, OTHER_KEY)


def test_a_probe_reads_the_key_and_signs_with_it(filed: Bench) -> None:
    forced = renew(filed)
    assert not filed.signer.refused(forced)
    write_key(filed, OTHER_KEY)

    filed.signer.refresh_for_probe()

    assert made_with(filed.signer.signature().value, OTHER_KEY)


def test_probes_with_one_key_renew_the_signature_only_every_few_seconds(bench: Bench) -> None:
    first = bench.serial
    for _ in range(11):
        bench.signer.refresh_for_probe()
        bench.clock.passes(1)

    assert bench.serial == first + 3


def test_a_probe_that_is_refused_is_still_the_end(bench: Bench) -> None:
    bench.signer.refresh_for_probe()

    assert not bench.signer.refused(bench.serial)


def test_a_verdict_on_the_key_says_nothing_of_a_key_that_came_later(filed: Bench) -> None:
    first = filed.serial
    assert not filed.signer.outdated(first)
    write_key(filed, OTHER_KEY)

    assert filed.signer.outdated(first)
    assert filed.signer.outdated(first)

    assert not filed.signer.outdated(filed.serial)
    assert made_with(filed.signer.signature().value, OTHER_KEY)


def test_a_new_key_that_is_refused_like_the_old_one_is_the_end(filed: Bench) -> None:
    first = filed.serial
    write_key(filed, OTHER_KEY)
    assert filed.signer.refused(first)

    assert not filed.signer.refused(filed.serial)

    write_key(filed, KEY)
    assert filed.signer.outdated(filed.serial)
    assert not filed.signer.refused(filed.serial)


def test_a_new_key_waits_for_the_end_of_a_lock(filed: Bench) -> None:
    first = filed.serial
    filed.signer.lock()
    write_key(filed, OTHER_KEY)

    assert filed.signer.refused(first)
    assert not filed.signer.outdated(first)
    filed.signer.refresh_for_probe()
    assert filed.serial == first
    filed.clock.passes(LOCK_SECONDS)

    assert made_with(filed.signer.signature().value, OTHER_KEY)


def test_what_is_signed_after_a_lock_is_signed_with_the_key_of_then(filed: Bench) -> None:
    filed.signer.lock()
    write_key(filed, OTHER_KEY)
    filed.clock.passes(LOCK_SECONDS)

    assert made_with(filed.signer.signature().value, OTHER_KEY)


@pytest.mark.parametrize("content", [b"", b"\n", b"not a key", None])
def test_a_key_file_that_becomes_unusable_changes_nothing_and_is_logged(
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
    assert filed.logged[0].event == "signature.key_unreadable"
    assert filed.logged[0].level == "warning"
    assert str(path) in str(filed.logged[0].fields["reason"])


def test_a_key_in_the_settings_is_never_read_again(bench: Bench) -> None:
    assert not bench.signer.reload()
    assert bench.events == []


def test_a_refused_signature_is_worth_nothing_until_it_may_be_renewed(bench: Bench) -> None:
    first = bench.serial
    assert bench.signer.pause(first) == 0.0

    bench.signer.refused(first)
    second = bench.serial
    bench.signer.accepted(second)
    bench.clock.passes(1)
    bench.signer.refused(second)

    assert bench.signer.pause(first) == 0.0, "there is a newer one"
    assert bench.signer.pause(second) == FORCED_EVERY - 1
    bench.clock.passes(FORCED_EVERY)
    assert bench.signer.pause(second) == 0.0
