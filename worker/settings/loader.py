# Makes settings of a file and an environment, or reports every problem in them at once.
#
# A refused value is replaced by a stand-in, so that contradictions among the others are found too.
# A problem never shows a secret, nor the value of an unknown name: it may be a secret under a misspelt name.
# Where the values come from is sources.py's business, what they may be that of the models.

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

from pydantic import ValidationError

from worker.errors import SHOWN, SettingProblem, SettingsError
from worker.settings.cross_checks import contradictions
from worker.settings.model import Settings
from worker.settings.setting_rows import find, nearest, table_of_rows
from worker.settings.sources import CONFIG, PREFIX, FileData, from_environment, from_file, merged, problems_in
from worker.settings.types import rule_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.settings.setting_rows import SettingRow, Words

_STAND_IN: Final[dict[str, Any]] = {
    "kafka": {"bootstrap_servers": ["stand-in:9092"]},
    "tencent": {"apps": {}},
}
_STAND_IN_APP: Final[dict[str, Any]] = {"sdk_app_id": 4_294_967_295, "identifier": "stand-in"}

_ROUNDS: Final = 4
"""One for values, one for what holds them, one for the stand-ins, and one to spare."""

_REPLACED_BY: Final = {"kafka.common.sasl_mechanism": "kafka.aws_msk_iam.region"}
"""A setting that need not be given where the other one is. It seems to be missing if the other one was refused."""
_ALTERNATIVES: Final = {"secret_key_file": "secret_key", "region": "base_url"}
"""Two settings of which an app has exactly one. A problem names the first."""


def load(config: Path | str | None, environ: Mapping[str, str]) -> Settings:
    """
    Return the settings of a YAML file (``config``, else the variable ``WORKER_CONFIG``, else none), overridden by variables.

    Raises SettingsError with every problem that can be found without a connection.
    """
    table = table_of_rows()
    path = config or environ.get(CONFIG)
    file = from_file(Path(path), table) if path else FileData()
    overrides, wrong_variables = from_environment(environ, table, file.data)
    data = merged(file.data, overrides)
    problems = [*file.problems, *wrong_variables, *problems_in(data)]
    if problems:
        raise SettingsError(problems)
    data = _with_sections(data, table)
    settings, problems = _validated(data, table, environ)
    wrong = {problem.name for problem in problems}
    problems += [
        problem for problem in contradictions(settings) if not _is_due_to_stand_in(problem.name, wrong)
    ]
    if problems:
        raise SettingsError([_without_hidden(file.hidden, problem) for problem in problems])
    return settings


def _without_hidden(hidden: frozenset[str], problem: SettingProblem) -> SettingProblem:
    shown = problem.value
    return replace(problem, value=None) if isinstance(shown, str) and shown in hidden else problem


def _validated(
    data: dict[str, Any], table: dict[Words, SettingRow], environ: Mapping[str, str]
) -> tuple[Settings, list[SettingProblem]]:
    """Return the settings, with stand-ins for what is wrong, and the problems."""
    problems: dict[str, SettingProblem] = {}
    for _ in range(_ROUNDS):
        try:
            return Settings(**data), list(problems.values())
        except ValidationError as error:
            errors = error.errors(include_url=False, include_context=False)
        for found in errors:
            words = _words(found["loc"], table)
            problem = _problem(found["type"], words, found["msg"], found["input"], table, environ)
            problems.setdefault(problem.name, problem)
            if found["type"] != "missing":
                _remove(data, words)
        # What is left may be wrong as a whole, as can be seen only without what was wrong by itself.
        data = merged(_STAND_IN, data)
        data["tencent"]["apps"] = {
            word: merged(_STAND_IN_APP, app) for word, app in data["tencent"]["apps"].items()
        }
    raise AssertionError("what is wrong with the settings was not taken out of them")


def _problem(
    kind: str,
    words: Words,
    message: str,
    value: object,
    table: dict[Words, SettingRow],
    environ: Mapping[str, str],
) -> SettingProblem:
    name = _named(words)
    row = find(table, words)
    holder = find(table, words[:-1])
    if holder is not None and holder.holds_kafka_options:
        return SettingProblem(
            name, "give a text, a number, true or false: kafka-python's options are nothing else"
        )
    if row is None and holder is not None and holder.maps_names:
        row, rule = holder, rule_of(get_args(holder.kind)[1], [])
    elif kind == "extra_forbidden" or row is None:
        return _unknown(words, table, environ)
    else:
        rule = row.rule
    if kind == "missing":
        where = "" if row.section is None else f" in the file that --config or {CONFIG} names"
        return SettingProblem(name, f"is missing: give {rule}{where}")
    reason = message.removeprefix("Value error, ") if kind == "value_error" else ""
    if kind == "string_type" and isinstance(value, bool | int | float):
        reason = "put it into quotes: without them YAML does not read it as text"
    return SettingProblem(name, f"give {rule}{f' ({reason})' if reason else ''}", _shown(row, value))


def _unknown(words: Words, table: dict[Words, SettingRow], environ: Mapping[str, str]) -> SettingProblem:
    """Return the problem that there is no setting of this name, with the one that was probably meant."""
    name = _named(words)
    variable = f"{PREFIX}{'__'.join(words)}".upper()
    of = f" (the variable {variable})" if variable in environ and len(variable) <= SHOWN else ""
    apart = tuple(".".join(words).split("."))
    if of and apart != words and find(table, apart) is not None:
        hint = f": write {PREFIX}{'__'.join(apart).upper()}"
    elif apart != words and find(table, apart) is not None:
        hint = (
            f": write {': {'.join(apart)}: …{'}' * (len(apart) - 1)}, as a dot does not part names in a file"
        )
    else:
        meant = nearest(table, words)
        hint = f": did you mean {meant}?" if meant else ""
    return SettingProblem(name, f"there is no such setting{of}{hint}")


def _named(words: Words) -> str:
    """Return the name with dots. A last word that is empty, or has dots in it, would look like no word, or like several."""
    *above, word = words
    return ".".join((*above, word if word and "." not in word else f'"{word}"'))


def _words(location: tuple[int | str, ...], table: dict[Words, SettingRow]) -> Words:
    """Return the path of the setting that pydantic's error concerns, without list positions and members of unions."""
    words: tuple[str, ...] = ()
    for part in location:
        if not isinstance(part, str):
            break
        row = find(table, words)
        if words and row is not None and row.section is None and row.name != "tencent.apps":
            if row.maps_names:  # the next word is the user's, or kafka-python's
                words = (*words, part)
            break
        words = (*words, part)
    return words


def _shown(row: SettingRow, value: object) -> object:
    hidden = row.path[-1] == "secret_key" or row.holds_kafka_options or row.section is not None
    with_credentials = isinstance(value, str) and "@" in value
    shown = isinstance(value, str | bool | int | float) and not hidden and not with_credentials
    return value if shown else None


def _remove(data: dict[str, Any], words: Words) -> None:
    """Remove the setting that an error is about; another error about it may have done so."""
    *above, last = words
    holder: Any = data
    for word in above:
        holder = holder.get(word, {})
    holder.pop(last, None)


def _with_sections(data: dict[str, Any], table: dict[Words, SettingRow], above: Words = ()) -> dict[str, Any]:
    """Return the data with a mapping for each section that has no value: everything in it is commented out."""
    found: dict[str, Any] = {}
    for word, value in data.items():
        row = table.get((*above, word))
        is_section = row is not None and row.section is not None and isinstance(value, dict | None)
        found[word] = _with_sections(value or {}, table, (*above, word)) if is_section else value
    return found


def _is_due_to_stand_in(name: str, wrong: set[str]) -> bool:
    """Return whether a contradiction is due to a stand-in: the setting that it names, or the alternative to it, was refused."""
    above, _, word = name.rpartition(".")
    alternative = f"{above}.{_ALTERNATIVES.get(word)}"
    return (
        alternative in wrong
        or _REPLACED_BY.get(name) in wrong
        or any(name == refused or name.startswith(f"{refused}.") for refused in wrong)
    )
