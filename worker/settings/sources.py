# Where settings are written: one YAML file, and environment variables over it.
#
# Both become one plain mapping here, with the problems of reading them. What a value may be is decided later
# (types.py, model.py), so a word that means nothing is passed on, to be refused there with all the others.

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args, get_origin

import yaml
from pydantic import SecretStr

from worker.errors import Problem
from worker.settings.catalog import find

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from worker.settings.catalog import SettingRow, Words

PREFIX: Final = "WORKER_"
CONFIG: Final = "WORKER_CONFIG"
"""The variable that names the file, where ``--config`` does not."""

_SERVICE_LINK: Final = re.compile(
    r"(SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$"
)
"""Variables that Kubernetes makes for a Service whose name begins with ``worker``: they are no settings."""


def from_file(path: Path) -> tuple[dict[str, Any], list[Problem]]:
    """What a YAML file says. Its text is never shown in a problem: it may hold a secret."""
    name = str(path)
    try:
        data = yaml.load(path.read_text("utf-8"), Loader=_Loader)  # noqa: S506 - a SafeLoader that refuses repeated keys
    except OSError as error:
        return {}, [Problem(name, f"the file cannot be read ({error.strerror}): check --config or {CONFIG}")]
    except UnicodeDecodeError:
        return {}, [Problem(name, "the file is not UTF-8 text")]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        what = error.problem if isinstance(error, _KeyError) else "the file is not valid YAML"
        return {}, [Problem(name, f"{what}{where}")]
    except (ValueError, RecursionError):
        return {}, [
            Problem(name, "the file is not valid YAML: it is nested too deep, or holds a number that is none")
        ]
    if data is None:
        return {}, []
    if not isinstance(data, dict):
        return {}, [Problem(name, "the file must hold a mapping of sections (kafka: …, tencent: …)")]
    return data, []


def from_environment(
    environ: Mapping[str, str], table: dict[Words, SettingRow], below: dict[str, Any]
) -> dict[str, Any]:
    """
    What the variables ``WORKER_<SECTION>__<SETTING>`` say.

    ``below`` is what the file says: where a user chooses a word, as the name of an app, the variable's ``MY_APP`` means the
    file's ``my-app``.
    """
    data: dict[str, Any] = {}
    for variable in sorted(environ):
        rest = variable.removeprefix(PREFIX)
        if variable in {rest, CONFIG} or ("__" not in rest and _SERVICE_LINK.search(rest)):
            continue
        words = _as_in_file(rest.lower().split("__"), below)
        value: object = _read(environ[variable], words, table)
        for word in reversed(words):
            value = {word: value}
        data = merged(data, value)
    return data


def merged(below: Any, above: Any) -> Any:
    """One value over another; of two mappings, key by key."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return {**below, **{key: merged(below.get(key), value) for key, value in above.items()}}


def _as_in_file(words: Iterable[str], below: object) -> Words:
    spelled: list[str] = []
    for word in words:
        known = [key for key in below if isinstance(key, str)] if isinstance(below, dict) else []
        spelled.append(next((key for key in known if _folded(key) == _folded(word)), word))
        below = below.get(spelled[-1]) if isinstance(below, dict) else None
    return tuple(spelled)


def _folded(word: str) -> str:
    return re.sub(r"[-.]", "_", word.lower())


def _read(text: str, words: Words, table: dict[Words, SettingRow]) -> object:
    """A variable's text as the value that its setting wants: texts as they are, everything else as JSON if it is that."""
    row = find(table, words)
    if row is None and words[-1].startswith(("sasl_", "ssl_")) and words[-1] != "ssl_check_hostname":
        return text
    if row is not None and _is_text(row.kind):
        return None if not text and type(None) in get_args(row.kind) else text
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value


def _is_text(kind: Any) -> bool:
    kinds_in = [
        getattr(item, "__origin__", item) for item in get_args(kind) or (kind,) if item is not type(None)
    ]
    return get_origin(kind) is Literal or all(
        isinstance(item, type) and issubclass(item, str | SecretStr | Path) for item in kinds_in
    )


_TEXT: Final = "tag:yaml.org,2002:str"
_MERGE: Final = "tag:yaml.org,2002:merge"


class _KeyError(yaml.MarkedYAMLError):
    pass


class _Loader(yaml.SafeLoader):
    """
    Takes keys and times as the texts that they are written as, and refuses what no settings file means.

    An app may be called by its SDKAppID, or ``no``. A mapping that names a key twice would lose the first without a word.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping, or ``_KeyError``."""
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _KeyError(
                    problem="a list or mapping is no name of a setting", problem_mark=key.start_mark
                )
            if key.value in seen:
                raise _KeyError(problem="a key is repeated", problem_mark=key.start_mark)
            seen.add(key.value)
            if key.tag != _MERGE:
                key.tag = _TEXT
        return super().construct_mapping(node, deep)


def _as_written(loader: _Loader, node: yaml.ScalarNode) -> object:
    return loader.construct_scalar(node)


_Loader.add_constructor("tag:yaml.org,2002:timestamp", _as_written)
