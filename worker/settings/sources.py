# Where settings come from: one YAML file, and environment variables that override it.
#
# Both become one plain mapping here, with the problems of reading them. What a value may be is decided later (types.py,
# model.py), so an unknown word is passed on, to be refused there together with the others.

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Union, get_args, get_origin

import yaml
from pydantic import SecretStr

from worker.errors import FileError, SettingProblem
from worker.printable_text import is_utf8
from worker.settings.setting_rows import find
from worker.settings.types import SECRET_OPTIONS
from worker.small_files import read_text
from worker.tls_file_problems import TLS_FILES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from worker.settings.setting_rows import SettingRow, Words

PREFIX: Final = "WORKER_"
CONFIG: Final = "WORKER_CONFIG"
"""The variable that names the file if ``--config`` does not."""

FILE_BYTES: Final = 1024 * 1024
"""The longest settings file: no ConfigMap of Kubernetes holds more."""
VALUES: Final = 50_000
"""The most names and values in a file; PyYAML's parser takes some seconds for them."""
NUMBER_CHARACTERS: Final = 100
"""The longest number that is read: PyYAML's time for 1:1:1… (base 60) is quadratic, and Python reads no integer of 5,000 digits."""
DEPTH: Final = 8
"""How deep settings may be nested: the deepest setting needs four levels."""
KAFKA_PATHS: Final = frozenset({*TLS_FILES, *(f"{option}_file" for option in SECRET_OPTIONS)})
"""Options of the Kafka client that name a file. All other settings that name a file have the type Path."""

_SERVICE_LINK: Final = re.compile(
    r"(SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$"
)
"""Variables that Kubernetes sets for a Service whose name begins with ``worker``: they are not settings."""


@dataclass(frozen=True, slots=True)
class FileData:
    """
    What a settings file holds.

    Attributes:
        hidden: Paths that no problem may show: in the file they are a single word, which may be a secret in the wrong place.

    """

    data: dict[str, Any] = field(default_factory=dict)
    problems: tuple[SettingProblem, ...] = ()
    hidden: frozenset[str] = frozenset()


def from_file(path: Path, table: dict[Words, SettingRow]) -> FileData:
    """
    Return what a YAML file holds, and the problems of reading it, which never show its text: it may contain a secret.

    Its relative paths are made absolute: they are taken from the folder of the file.
    """
    name = str(path)
    try:
        data = _load_yaml(read_text(path, FILE_BYTES))
    except FileError as error:
        return _unusable(name, f"the file cannot be read ({error}): check --config or {CONFIG}")
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        what = error.problem if isinstance(error, _RefusedYamlError) else "the file is not valid YAML"
        return _unusable(name, f"{what}{where}")
    except (ValueError, LookupError, TypeError, ArithmeticError, RecursionError):
        # A tag that does not fit its text (!!bool maybe, !!int "").
        return _unusable(
            name,
            "the file is not valid YAML: it is nested too deep, or a value does not fit its tag (!!int, say)",
        )
    if data is None:
        return FileData()
    if not isinstance(data, dict):
        return _unusable(name, "the file must contain a mapping of sections (kafka: …, tencent: …)")
    names = KAFKA_PATHS | {row.path[-1] for row in table.values() if _is_path(row.kind)}
    return FileData(data, hidden=_make_paths_absolute(data, path.absolute().parent, names))


def _unusable(name: str, remedy: str) -> FileData:
    return FileData(problems=(SettingProblem(name, remedy),))


def _make_paths_absolute(data: dict[str, Any], folder: Path, names: frozenset[str]) -> frozenset[str]:
    """
    Make every relative path in ``data`` absolute, in place: it is relative to ``folder``. Return those that must not be shown.

    It is iterative, since the data may be nested without end; deeper than ``DEPTH`` there is no setting.
    """
    hidden: set[str] = set()
    waiting: list[tuple[dict[str, Any], int]] = [(data, 1)]
    while waiting:
        section, depth = waiting.pop()
        for name, value in section.items():
            if isinstance(value, dict) and depth < DEPTH:
                waiting.append((value, depth + 1))
            elif name in names and isinstance(value, str) and value:
                section[name] = os.path.join(folder, value)  # noqa: PTH118 - pathlib would drop a trailing slash
                if "/" not in value and name not in TLS_FILES:
                    hidden.add(section[name])
    return frozenset(hidden)


def _is_path(kind: Any) -> bool:
    return Path in _alternatives(kind)


def _alternatives(kind: Any) -> tuple[Any, ...]:
    """Return the types that a value may have: the members of a union without None, each without what is annotated."""
    if get_origin(kind) is Annotated:
        return _alternatives(get_args(kind)[0])
    if get_origin(kind) not in (Union, UnionType):
        return (kind,)
    return tuple(each for part in get_args(kind) if part is not type(None) for each in _alternatives(part))


def from_environment(
    environ: Mapping[str, str], table: dict[Words, SettingRow], below: dict[str, Any]
) -> tuple[dict[str, Any], list[SettingProblem]]:
    """
    Return the data of the variables ``WORKER_<SECTION>__<SETTING>``, and the problems of reading them.

    ``below`` is the file's data: where the user chooses a word, like the name of an app, a variable's ``MY_APP`` means the
    file's ``my-app``.
    """
    data: dict[str, Any] = {}
    problems: list[SettingProblem] = []
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or variable == CONFIG:
            continue
        name = variable.removeprefix(PREFIX)
        if "__" not in name and _is_service_link(name, environ[variable]):
            continue
        words = name.lower().split("__")
        if len(words) > DEPTH or not all(words):
            remedy = f"there is no such setting: a name has one to {DEPTH} words with two underscores between"
            problems.append(SettingProblem(variable, remedy))
            continue
        spelled = _as_in_file(words, below, data)
        if _lost_capitals(spelled, table, below, data):
            as_json = PREFIX + "__".join(spelled[:-1]).upper()
            remedy = f"a variable's name does not tell capitals from small letters: give {as_json} as JSON, with this name as it is"
            problems.append(SettingProblem(".".join(spelled), remedy))
            continue
        try:
            value: object = _read(environ[variable], spelled, table)
        except _RepeatedError:
            problems.append(SettingProblem(".".join(spelled), "a name is repeated in this variable's JSON"))
            continue
        except RecursionError:
            problems.append(SettingProblem(".".join(spelled), "this variable's JSON is nested too deep"))
            continue
        found = problems_in(value, spelled)
        problems += found
        if not found:  # else `merged`, which is recursive, would get data nested without end
            for word in reversed(spelled):
                value = {word: value}
            data = merged(data, value)
    return data, problems


def _is_service_link(name: str, value: str) -> bool:
    """Return whether Kubernetes has set it. In ``WORKER_SERVER_PORT=9001`` a person has forgotten an underscore."""
    return _SERVICE_LINK.search(name) is not None or (name.endswith("PORT") and "://" in value)


def problems_in(data: object, top: Words = ()) -> list[SettingProblem]:
    """
    Return where the data at the path ``top`` is nested too deep, or contains text that is not UTF-8, which an environment may.

    It is iterative, since the data may be nested without end.
    """
    problems: list[SettingProblem] = []
    waiting: list[tuple[Words, object, int]] = [(top, data, len(top))]
    while waiting:
        path, value, depth = waiting.pop()
        if depth > DEPTH:
            problems.append(
                SettingProblem(".".join(path), "it is nested too deep: no setting is nested like this")
            )
        elif isinstance(value, dict):
            for key, inner in value.items():
                if is_utf8(str(key)):
                    waiting.append(((*path, str(key)), inner, depth + 1))
                else:
                    problems.append(
                        SettingProblem(".".join((*path, _replaced(str(key)))), "this name is not UTF-8")
                    )
        elif isinstance(value, list | tuple | set):
            waiting += [(path, inner, depth + 1) for inner in value]
        elif isinstance(value, str) and not is_utf8(value):
            problems.append(SettingProblem(".".join(path), "this value is not UTF-8 text"))
    return list(dict.fromkeys(problems))


def _replaced(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def merged(below: Any, above: Any) -> Any:
    """Return ``above`` over ``below``: mappings are merged key by key, anything else is replaced."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return {**below, **{key: merged(below.get(key), value) for key, value in above.items()}}


def _as_in_file(words: Iterable[str], *given: object) -> Words:
    """Return the words as the data that is ``given`` spells them: the file's, and that of the variables before this one."""
    spelled: list[str] = []
    for word in words:
        known = [key for data in given if isinstance(data, dict) for key in data if isinstance(key, str)]
        alike = [key for key in known if _folded(key) == _folded(word)]
        spelled.append(word if word in alike or not alike else alike[0])
        given = tuple(data.get(spelled[-1]) for data in given if isinstance(data, dict))
    return tuple(spelled)


def _lost_capitals(words: Words, table: dict[Words, SettingRow], *given: object) -> bool:
    """Return whether a variable names what may have capitals, and nothing that is ``given`` says which."""
    holder = find(table, words[:-1])
    if holder is None or not _holds_texts(holder.kind):
        return False
    for word in words:
        given = tuple(data[word] for data in given if isinstance(data, dict) and word in data)
    return not given


def _holds_texts(kind: Any) -> bool:
    """Return whether it is a mapping of names, which the user chooses, to texts."""
    return get_origin(kind) is dict and all(map(_is_text, get_args(kind)))


def _folded(word: str) -> str:
    return re.sub(r"[-.]", "_", word.lower())


def _read(text: str, words: Words, table: dict[Words, SettingRow]) -> object:
    """Return the value of a variable: its text if the setting is a text, else what it is as JSON, else its text."""
    row, holder = find(table, words), find(table, words[:-1])
    # Of kafka-python's options these take a text: a password that is all digits must not become a number.
    if row is None and words[-1].startswith(("sasl_", "ssl_")) and words[-1] != "ssl_check_hostname":
        return text
    if row is None and holder is not None and _holds_texts(holder.kind):
        return text
    if row is not None and _is_text(row.kind):
        return None if text in {"", "null"} and type(None) in get_args(row.kind) else text
    try:
        value = json.loads(text, object_pairs_hook=_without_repeats)
    except ValueError:
        return text
    # A list of one text, without brackets: a user id that is all digits is no number.
    if row is not None and _is_list_of_texts(row.kind) and isinstance(value, bool | int | float):
        return text
    return value


class _RepeatedError(Exception):
    pass


def _without_repeats(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the members as a mapping. Python's decoder would silently keep the last of two with the same name."""
    made = dict(members)
    if len(made) != len(members):
        raise _RepeatedError
    return made


def _is_list_of_texts(kind: Any) -> bool:
    return all(get_origin(each) is tuple and _is_text(get_args(each)[0]) for each in _alternatives(kind))


def _is_text(kind: Any) -> bool:
    return all(
        get_origin(each) is Literal or (isinstance(each, type) and issubclass(each, str | SecretStr | Path))
        for each in _alternatives(kind)
    )


_BEYOND: Final = 10**NUMBER_CHARACTERS
"""Replaces a longer number: more than any setting may be, so that it is refused under its setting's name."""
_TEXT: Final = "tag:yaml.org,2002:str"
_MERGE: Final = "tag:yaml.org,2002:merge"


class _RefusedYamlError(yaml.MarkedYAMLError):
    pass


def _load_yaml(text: str) -> Any:
    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as error:
        place: int = error.position
        line, column = text.count("\n", 0, place), place - text.rfind("\n", 0, place) - 1
        raise _RefusedYamlError(
            problem=f"the file contains the character U+{error.character:04X}, which no YAML may: take it out",
            problem_mark=yaml.Mark("", place, line, column, None, 0),
        ) from None
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        _expanded_size(root, {})
        return loader.construct_document(root)
    finally:
        loader.dispose()


def _expanded_size(node: yaml.Node, sizes: dict[yaml.Node, int]) -> int:
    """
    Return how many values a node contains with all aliases expanded.

    Raises ``_RefusedYamlError`` if those are too many, or infinitely many: a few lines of aliases can expand to more than any
    memory holds.
    """
    if node in sizes:
        if not sizes[node]:  # its own size is being computed
            raise _RefusedYamlError(
                problem="an alias refers to what contains it", problem_mark=node.start_mark
            )
        return sizes[node]
    sizes[node] = 0
    size = 1
    if isinstance(node, yaml.MappingNode):
        size += sum(_expanded_size(key, sizes) + _expanded_size(value, sizes) for key, value in node.value)
    elif isinstance(node, yaml.SequenceNode):
        size += sum(_expanded_size(item, sizes) for item in node.value)
    if size > VALUES:
        raise _RefusedYamlError(
            problem=f"aliases expand to more than {VALUES:,} values here", problem_mark=node.start_mark
        )
    sizes[node] = size
    return size


class _Loader(yaml.SafeLoader):
    """
    Reads keys and times as plain text, and refuses what no settings file needs.

    The name of an app may be its SDKAppID, or ``no``. A key given twice would silently lose its first value.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._values = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Return the next node. Raises ``_RefusedYamlError`` if there are more than any settings file has."""
        self._values += 1
        if self._values > VALUES:
            raise _RefusedYamlError(problem=f"the file contains more than {VALUES:,} values")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping, with its keys as text. Raises ``_RefusedYamlError`` for a repeated key, or one that is not a scalar."""
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _RefusedYamlError(
                    problem="a list or mapping cannot name a setting", problem_mark=key.start_mark
                )
            if key.value in seen:
                raise _RefusedYamlError(problem="a key is repeated", problem_mark=key.start_mark)
            seen.add(key.value)
            if key.tag != _MERGE:
                key.tag = _TEXT
        return super().construct_mapping(node, deep)


def _as_written(loader: _Loader, node: yaml.ScalarNode) -> object:
    return loader.construct_scalar(node)


def _bounded(read: Callable[[Any, Any], object]) -> Callable[[_Loader, yaml.Node], object]:
    """Return PyYAML's reader of a kind of number, for numbers of at most ``NUMBER_CHARACTERS``."""

    def number(loader: _Loader, node: yaml.Node) -> object:
        is_long = isinstance(node, yaml.ScalarNode) and len(node.value) > NUMBER_CHARACTERS
        return _BEYOND if is_long else read(loader, node)

    return number


def _whole_number(loader: _Loader, node: yaml.ScalarNode) -> object:
    # 0200 is 200 in a variable, and 128 for YAML.
    if re.match(r"[-+]?0_*[0-7]", node.value):
        raise _RefusedYamlError(
            problem="YAML reads a number that begins with 0 as octal: leave the 0 out, or put a text into quotes",
            problem_mark=node.start_mark,
        )
    return yaml.SafeLoader.construct_yaml_int(loader, node)


_Loader.add_constructor("tag:yaml.org,2002:timestamp", _as_written)
_Loader.add_constructor("tag:yaml.org,2002:int", _bounded(_whole_number))
_Loader.add_constructor("tag:yaml.org,2002:float", _bounded(yaml.SafeLoader.construct_yaml_float))
