# The Dockerfile and what it is given, read without building.

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

from tests.image.containers import REPOSITORY, context
from tests.project.locks import PROJECT
from worker import __version__

if TYPE_CHECKING:
    from pathlib import Path


def _instructions() -> list[tuple[str, str]]:
    text = (context() / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def _all(word: str) -> list[str]:
    return [rest for name, rest in _instructions() if name == word]


def test_hadolint_finds_no_fault(hadolint: Path) -> None:
    done = subprocess.run([hadolint, context() / "Dockerfile"], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout


def test_both_stages_stand_on_a_base_that_can_be_pinned_from_outside() -> None:
    assert _instructions()[0][0] == "ARG"
    assert _all("ARG")[0].startswith("BASE=")
    assert [rest.split()[0] for rest in _all("FROM")] == ["${BASE}", "${BASE}"]


def test_nothing_is_installed_that_is_not_locked_by_hash() -> None:
    installs = re.findall(r"pip install ([^&]*)", " && ".join(_all("RUN")))

    assert len(installs) == 3
    for options in installs:
        assert "--no-deps" in options
        assert "--require-hashes" in options or "--no-index" in options
    for name in ("requirements.txt", "requirements-build.txt"):
        assert "--hash=sha256:" in (REPOSITORY / name).read_text()


def test_no_secret_and_no_address_of_a_registry_is_in_it() -> None:
    home = PROJECT["project"]["urls"]["Homepage"]
    text = (context() / "Dockerfile").read_text().replace(home, "")

    assert not re.search(r"index-url|https?://(?!127\.0\.0\.1)", text)
    assert not re.search(r"(?i)\b(ARG|ENV)\s+\w*(key|token|password|secret)", text)


def test_only_named_files_reach_the_build() -> None:
    """An allow-list: a key file that lies about in a checkout must not get into a layer."""
    lines = [
        line for line in (context() / ".dockerignore").read_text().splitlines() if not line.startswith("#")
    ]
    allowed = {line.removeprefix("!") for line in lines if line.startswith("!") and "/" not in line}
    copied = {
        source
        for rest in _all("COPY")
        if "--from" not in rest
        for source in rest.split()[:-1]
        if "/" not in source
    }

    assert lines[0] == "*"
    assert copied == allowed


def test_the_version_on_the_label_is_the_programs() -> None:
    assert f"VERSION={__version__}" in _all("ARG")
