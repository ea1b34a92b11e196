# Who was refused lately, and for how long that is remembered.

from __future__ import annotations

from worker.domain.calls.recently_refused_users import MOST, SECONDS, RecentlyRefusedUsers


def test_a_refused_user_is_likely_to_be_refused_for_a_while_in_that_target_alone() -> None:
    users = RecentlyRefusedUsers()
    users.refused("g", "u", 10.0)
    assert users.are_likely("g", "u", 10.0 + SECONDS - 1)
    assert not users.are_likely("g", "u", 10.0 + SECONDS)
    assert not users.are_likely("h", "u", 10.0)
    assert not users.are_likely("g", "v", 10.0)


def test_a_user_that_passes_is_trusted_again() -> None:
    users = RecentlyRefusedUsers()
    users.refused("g", "u", 10.0)
    users.accepted("g", "u")
    users.accepted("g", "stranger")
    assert not users.are_likely("g", "u", 10.0)


def test_the_one_refused_longest_ago_is_forgotten_first() -> None:
    users = RecentlyRefusedUsers()
    for number in range(MOST):
        users.refused("g", f"u{number}", 1.0)
    users.refused("g", "u0", 2.0)
    users.refused("g", "new", 2.0)
    assert len(users) == MOST
    assert users.are_likely("g", "u0", 2.0)
    assert not users.are_likely("g", "u1", 2.0)
