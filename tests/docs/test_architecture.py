# ARCHITECTURE.md shows the code as it is: its files, its owners, its states and its gates. The rules that it states are kept.

from __future__ import annotations

import ast
import re
import tomllib
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.docs.markdown import ROOT, rows, text
from tests.docs.state_diagrams import diagram
from worker.domain import state_transitions
from worker.domain.calls.gates import GateKind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGE: Final = "ARCHITECTURE.md"
DOMAIN: Final = ROOT / "worker" / "domain"
RUNTIME: Final = ROOT / "worker" / "runtime"
MAY_BE_CONCRETE: Final = {"__init__", "wiring", "options_from_settings"}
AROUND_THE_CORE: Final = text(PAGE).partition("## Around the core")[2].partition("## ")[0]
TABLES: Final = dict(re.findall(r" in `(worker/[\w/]+)/`[^\n]*:\n\n((?:\|[^\n]*\n)+)", AROUND_THE_CORE))
"""The table of each package around the core, by the package's folder."""
WAYS: Final = text(PAGE).partition("## Four other paths")[2].partition("## ")[0]
FILES: Final = text(PAGE).partition("Inside the domain are three packages")[2].partition("## ")[0]
MUTATING: Final = frozenset(
    [
        "append",
        "appendleft",
        "extend",
        "extendleft",
        "add",
        "discard",
        "pop",
        "popleft",
        "popitem",
        "clear",
        "update",
        "insert",
        "setdefault",
    ]
)
VALUES: Final = frozenset({"Struct", "Enum", "StrEnum", "Protocol", "NamedTuple", "bytes"})
"""What an owner of state is not."""
PORTS: Final = "worker/runtime/ports.py"
ADAPTERS_AND_LOOP: Final = ("worker/broker/", "worker/tencent/", "worker/runtime/")
"""Where an implementation of a port is."""


def core() -> list[Path]:
    return [path for path in sorted(DOMAIN.rglob("*.py")) if path.name != "__init__.py"]


def test_every_file_of_the_core_is_in_the_table() -> None:
    files = {path.name for path in core()}

    assert {word for word in FILES.split("`") if word.endswith(".py")} == files


def test_every_package_around_the_core_has_a_table() -> None:
    packages = {path.parent for path in (ROOT / "worker").rglob("*.py")} - {DOMAIN, *DOMAIN.rglob("*")}
    with_modules = {path for path in packages if {each.name for each in path.glob("*.py")} != {"__init__.py"}}

    assert set(TABLES) == {str(path.relative_to(ROOT)) for path in with_modules - {ROOT / "worker"}}


@pytest.mark.parametrize("package", TABLES)
def test_every_file_around_the_core_is_in_its_table(package: str) -> None:
    listed = [
        name
        for row in TABLES[package].splitlines()[2:]
        for name in re.findall(r"`(\w+\.py)`", row.split("|")[1])
    ]

    assert sorted(listed) == sorted(
        path.name for path in (ROOT / package).glob("*.py") if path.name != "__init__.py"
    )


@pytest.mark.parametrize("package", TABLES)
def test_a_row_of_files_is_one_short_line(package: str) -> None:
    assert [row for row in TABLES[package].splitlines() if len(row) > 150] == []


def test_what_the_ways_name_in_a_file_is_defined_in_that_file() -> None:
    said = re.findall(r"`([\w/]+\.py)`\s+\(([^()]*)\)", WAYS)
    named = [(place, name) for place, names in said for name in re.findall(r"`(\w+)`", names)]

    assert len(named) > 30
    assert [(place, name) for place, name in named if not defines(place, name)] == []
    assert len(re.findall(r"\w\.py`", WAYS)) == len(said) + 1  # of the tests no name is said


def defines(place: str, name: str) -> bool:
    """Whether the only file of the worker at this end of a path defines a function, class or constant of this name."""
    (file,) = [path for path in (ROOT / "worker").rglob("*.py") if str(path).endswith(f"/{place}")]
    return bool(re.search(rf"^ *(async )?(def|class) {name}\b|^{name}: ", file.read_text(), re.MULTILINE))


def test_every_package_of_the_core_is_in_the_table() -> None:
    packages = {f"{path.name}/" for path in DOMAIN.iterdir() if (path / "__init__.py").exists()}

    assert {word for word in FILES.split("`") if word.endswith("/")} == packages


def test_the_parts_of_the_core_are_listed_from_bottom_to_top_as_their_imports_are_checked() -> None:
    """Each module and package of the core is in one of the layers of ``pyproject.toml``, and the table has their order."""
    contracts = tomllib.loads(text("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    (layered,) = [each for each in contracts if each.get("containers") == ["worker.domain"]]
    layers = [set(layer.split(" | ")) for layer in reversed(layered["layers"])]
    parts = {
        path.stem for path in DOMAIN.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    names = [word.rstrip("/").removesuffix(".py") for word in FILES.split("`")]
    listed = [name for name in names if name in parts]

    assert layered["exhaustive"]
    assert sorted(listed) == sorted(parts - {"__init__"})
    for layer in layers:
        found, listed = listed[: len(layer)], listed[len(layer) :]
        assert set(found) == layer


def test_wiring_alone_builds_concrete_things() -> None:
    """Every other module of the runtime is in the contract that forbids it, except the one that knows the adapters' options."""
    contracts = tomllib.loads(text("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    (contract,) = [
        each for each in contracts if each["name"].startswith("Wiring alone builds concrete things")
    ]
    modules = {
        f"worker.runtime.{path.stem}" for path in RUNTIME.glob("*.py") if path.stem not in MAY_BE_CONCRETE
    }

    assert set(contract["source_modules"]) == modules


def writes(tree: ast.AST) -> Iterator[tuple[ast.Attribute, bool]]:
    """Every store into an attribute, and every call that changes one in place; and whether it is the object's own."""
    for node in ast.walk(tree):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign | ast.Delete):
            targets = list(node.targets)
        elif isinstance(node, ast.AugAssign | ast.AnnAssign):
            targets = [node.target]
        elif (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATING
        ):
            targets = [node.func.value]
        while targets:
            target = targets.pop()
            if isinstance(target, ast.Tuple):
                targets += target.elts
            elif isinstance(target, ast.Subscript):
                targets.append(target.value)
            elif isinstance(target, ast.Attribute):
                yield target, isinstance(target.value, ast.Name) and target.value.id == "self"


def classes() -> dict[str, tuple[Path, ast.ClassDef]]:
    return {
        node.name: (path, node)
        for path in core()
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    }


def owners() -> dict[str, Path]:
    """The classes whose objects change: some method but the first writes to them."""
    found = {}
    for name, (path, node) in classes().items():
        bases = {word.id for base in node.bases for word in ast.walk(base) if isinstance(word, ast.Name)}
        methods = [
            each for each in node.body if isinstance(each, ast.FunctionDef) and each.name != "__init__"
        ]
        if not bases & VALUES and any(own for method in methods for _, own in writes(method)):
            found[name] = path
    return found


def test_every_owner_of_state_is_in_the_table_with_its_module() -> None:
    listed = {
        name.strip("` "): module.strip("`")
        for names, module, _ in rows(PAGE, "## Who owns what")
        for name in names.split(",")
    }

    assert listed == {name: path.name for name, path in owners().items()}


def test_no_module_of_the_core_compares_with_an_order() -> None:
    """What one does with its commands is said by the columns of its row."""
    named = {
        path.name: node.lineno
        for path in core()
        for compared in ast.walk(ast.parse(path.read_text()))
        if isinstance(compared, ast.Compare)
        for node in ast.walk(compared)
        if isinstance(node, ast.Name) and node.id == "OrderState"
    }

    assert named == {}


def test_no_attribute_of_the_core_has_a_second_writing_module() -> None:
    """Whoever could change an object from outside would have to know what else must change with it."""
    fields: defaultdict[str, set[Path]] = defaultdict(set)
    for path, node in classes().values():
        for target, own in writes(node):
            if own:
                fields[target.attr].add(path)
        for each in ast.walk(node):
            if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
                fields[each.target.id].add(path)
    foreign = [
        f"{path.name}:{target.lineno} writes {ast.unparse(target)}"
        for path in core()
        for target, own in writes(ast.parse(path.read_text()))
        if not own and path not in fields[target.attr]
    ]

    assert foreign == []


@pytest.mark.parametrize(
    "steps",
    [
        state_transitions.TASK_STEPS,
        state_transitions.CALL_STEPS,
        state_transitions.PARTITION_STEPS,
        state_transitions.CLEAN_HANDOVER_STEPS,
    ],
)
def test_the_states_are_drawn_as_the_tables_say(steps: Any) -> None:
    assert f"```mermaid\n{diagram(steps)}```" in text(PAGE)


def test_every_gate_is_in_the_table_with_its_policy() -> None:
    word = {True: "yes", False: "no"}

    assert rows(PAGE, "## Where things may be") == [
        [
            kind.value.name,
            f"`{kind.value.limited_by}`",
            word[kind.value.is_probed],
            word[kind.value.holds_up_drain],
            word[not kind.value.stops_clock],
        ]
        for kind in GateKind
    ]


def test_no_class_name_exists_twice_but_for_a_port_and_its_implementation() -> None:
    """Else a reader who searches for a name finds another thing."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted((ROOT / "worker").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(str(path.relative_to(ROOT)))

    twice = {name: places for name, places in found.items() if len(places) > 1}
    assert {
        name: places for name, places in twice.items() if not is_port_with_its_implementation(places)
    } == {}


def is_port_with_its_implementation(places: list[str]) -> bool:
    others = [place for place in places if place != PORTS]
    return len(places) == 2 and len(others) == 1 and others[0].startswith(ADAPTERS_AND_LOOP)
