# The options that narrow a question: what is refused, and with which remedy.

from __future__ import annotations

from typing import Any

import pytest
import typer

from worker.cli.filter_options import filters_of


def refused(since: str = "24h", until: str | None = None, **traits: Any) -> tuple[str | None, str]:
    with pytest.raises(typer.BadParameter) as caught:
        filters_of(since, until, **traits)
    hint = caught.value.param_hint
    return (hint if isinstance(hint, str) else None), caught.value.message


@pytest.mark.parametrize(
    ("trait", "value", "says"),
    [
        ("status", "faild", "did you mean failed?"),
        ("status", "Failed", "did you mean failed?"),
        ("status", "x", "there are succeeded, partially_succeeded"),
        ("action", "ban", "did you mean group.ban_group_member?"),
        ("action", "group.unban_group_membr", "did you mean group.unban_group_member?"),
        ("action", "dance", "there are group.ban_group_member"),
        ("issuer", "", "it is empty"),
        ("app", "\udcff", "not UTF-8"),
    ],
)
def test_a_value_that_can_match_nothing_is_refused_with_what_was_meant(
    trait: str, value: str, says: str
) -> None:
    asked: dict[str, Any] = {trait: [value]}

    option, message = refused(**asked)

    assert option == f"--{trait}"
    assert says in message


@pytest.mark.parametrize("option", ["since", "until"])
@pytest.mark.parametrize("text", ["yesterday", "", "24", "2027-01-15"])
def test_a_time_that_cannot_be_read_is_refused_with_the_forms_that_can(option: str, text: str) -> None:
    times: dict[str, Any] = {option: text}

    hint, message = refused(**times)

    assert hint == f"--{option}"
    assert "give 90s, 30m, 24h or 7d" in message


@pytest.mark.parametrize("until", ["2h", "3h", "2020-01-01T00:00:00Z"])
def test_an_end_that_is_not_after_the_beginning_is_refused(until: str) -> None:
    assert refused("2h", until) == ("--until", f"it is not after --since: nothing is between 2h and {until}")


@pytest.mark.parametrize("trait", ["request_id", "outcome_id", "error_code"])
def test_what_waits_cannot_have_what_only_an_outcome_has(trait: str) -> None:
    asked: dict[str, Any] = {"status": ["waiting"], trait: ["x"]}

    option, message = refused(**asked)

    assert option == f"--{trait.replace('_', '-')}"
    assert "a waiting command has none" in message


def test_what_waits_has_no_end() -> None:
    assert refused(until="1h", status=["waiting"])[0] == "--until"


def test_several_values_of_an_option_are_alternatives() -> None:
    filters = filters_of("1h", None, status=["failed", "rejected"], issuer=None, user=[])

    assert filters.traits == {"status": frozenset({"failed", "rejected"})}
    assert str(filters) == "status failed or rejected"
