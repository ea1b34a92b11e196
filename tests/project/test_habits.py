# What a stranger's editor, commit hook, bot and pull request are given agrees with what the project does.

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from tests.docs.markdown import links, text
from tests.project.locks import PROJECT, PYTHONS, ROOT

if TYPE_CHECKING:
    from pathlib import Path

WORKFLOW: Final = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yaml").read_text(encoding="utf-8"))


def test_the_workflow_tests_every_python_that_is_claimed() -> None:
    """A claim that is not tried is a guess."""
    jobs = WORKFLOW["jobs"]
    (installs,) = (
        step["with"]["python-version"]
        for step in jobs["install"]["steps"]
        if "with" in step and "python-version" in step["with"]
    )

    assert tuple(jobs["test"]["strategy"]["matrix"]["python"]) == PYTHONS
    assert tuple(installs.split()) == PYTHONS


def test_the_oldest_python_that_is_claimed_is_the_one_that_the_tools_judge_by() -> None:
    oldest = PYTHONS[0]

    assert PROJECT["project"]["requires-python"] == f">={oldest}"
    assert PROJECT["tool"]["ruff"]["target-version"] == f"py{oldest.replace('.', '')}"
    assert PROJECT["tool"]["mypy"]["python_version"] == oldest


def test_ci_runs_every_suite_of_the_makefile() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    suites = re.findall(r"^(lint|type|(?:[a-z]+-)?test):", text("Makefile"), re.MULTILINE)

    assert len(suites) >= 5
    for suite in suites:
        assert re.search(rf"\b{suite}\b", script), suite


def test_ci_keeps_its_scratch_in_a_folder_that_make_understands(tmp_path: Path) -> None:
    """A path with a blank would be two targets."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    beginning = script.partition("beside=\n")[0].replace('cd "$(dirname', ': "$(dirname')
    folder = tmp_path / "a b"
    folder.mkdir()

    done = subprocess.run(
        ["bash", "-c", f'{beginning}\necho "$scratch"; rmdir "$scratch"'],
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert re.fullmatch(r"/\S+\n", done.stdout)


def test_hooks_are_targets_of_the_makefile() -> None:
    """One tool, one version, one way to call it: a hook with versions of its own says another thing than `make check`."""
    config: dict[str, Any] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    (repository,) = config["repos"]
    targets = re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE)

    assert repository["repo"] == "local"
    for hook in repository["hooks"]:
        assert re.fullmatch(r"make --silent ([a-z]+)", hook["entry"])
        assert hook["entry"].split()[-1] in targets


def test_the_bot_looks_after_every_place_that_pins_something() -> None:
    bot = yaml.safe_load((ROOT / ".github" / "dependabot.yml").read_text(encoding="utf-8"))
    places = {(update["package-ecosystem"], update["directory"]) for update in bot["updates"]}

    assert bot["version"] == 2
    assert places == {
        ("pip", "/"),
        ("pip", "/tests/image"),
        ("pip", "/tests/release"),
        ("gomod", "/tests/chart/tools"),
        ("github-actions", "/"),
        ("docker", "/"),
    }


def test_editors_and_ruff_agree_about_python() -> None:
    (section,) = re.findall(r"^\[\*\.py\]\n((?:.+\n)+)", text(".editorconfig"), re.MULTILINE)

    assert f"max_line_length = {PROJECT['tool']['ruff']['line-length']}\n" in section


@pytest.mark.parametrize("page", ["SECURITY.md", ".github/pull_request_template.md"])
def test_every_link_of_the_pages_for_strangers_leads_somewhere(page: str) -> None:
    for link in links(page):
        assert ((ROOT / page).parent / link).exists(), link
