# What is published of Python and the chart: what is in it, that it is the same when it is made again, and that it installs.

from __future__ import annotations

import email
import re
import shutil
import subprocess
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

from tests.chart import chart
from tests.project.locks import PROJECT, ROOT
from tests.release import artifacts
from worker import __version__

DIGEST = f"sha256:{'a' * 64}"


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """A clone in which the changelog tells of this version."""
    root = tmp_path / "clone"
    (root / "helm").mkdir(parents=True)
    shutil.copytree(ROOT / "helm" / "moderation-worker", root / "helm" / "moderation-worker")
    text = (ROOT / "CHANGELOG.md").read_text()
    if f"## [{__version__}]" not in text:
        text = text.replace("## [Unreleased]\n", f"## [Unreleased]\n\n## [{__version__}] - 2026-01-31\n")
    (root / "CHANGELOG.md").write_text(text + "\n## [0.0.1] - 2025-01-01\n\nOld news.\n")
    return root


def test_the_tag_of_this_version_may_be_released(released: Path) -> None:
    artifacts.check(f"v{__version__}", PROJECT["project"]["urls"]["Homepage"], root=released)


@pytest.mark.parametrize(
    ("tag", "repository", "reason"),
    [
        (__version__, None, f"tag v{__version__}"),
        ("v99.0.0", None, f"worker/__init__.py says {__version__}"),
        (f"v{__version__}-rc1", None, f"tag v{__version__}"),
        (f"v{__version__}", "https://example.com/a/fork", "links would lead elsewhere"),
    ],
)
def test_a_tag_that_does_not_fit_is_refused_with_what_to_do(
    released: Path, tag: str, repository: str | None, reason: str
) -> None:
    with pytest.raises(artifacts.ReleaseError, match=re.escape(reason)):
        artifacts.check(tag, repository, root=released)


def test_a_version_of_which_the_changelog_says_nothing_is_not_released(released: Path) -> None:
    page = released / "CHANGELOG.md"
    page.write_text(
        re.sub(rf"^## \[{re.escape(__version__)}\].*\n", "", page.read_text(), flags=re.MULTILINE)
    )

    with pytest.raises(artifacts.ReleaseError, match="give Unreleased its number"):
        artifacts.check(f"v{__version__}", root=released)


def test_the_notes_are_the_versions_part_of_the_changelog(released: Path) -> None:
    notes = artifacts.notes(__version__, root=released)

    assert "### Added" in notes
    assert "Old news" not in notes
    assert "\n## " not in notes
    assert artifacts.notes("0.0.1", root=released) == "Old news.\n"


def test_the_wheel_holds_the_program_and_nothing_else(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[1]) as wheel:
        names = set(wheel.namelist())

    tracked = subprocess.run(
        ["git", "ls-files", "worker"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    about = {name for name in names if ".dist-info/" in name}
    assert names - about == set(tracked.stdout.split())
    assert {Path(name).name for name in about} == {
        "METADATA", "WHEEL", "RECORD", "entry_points.txt", "top_level.txt", "LICENSE",
    }  # fmt: skip
    assert built[1].name == f"moderation_worker-{__version__}-py3-none-any.whl"


def test_the_wheel_says_what_an_index_shows(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[1]) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith("/METADATA"))
        about = email.message_from_bytes(wheel.read(name))

    project = PROJECT["project"]
    assert (about["Name"], about["Version"]) == ("moderation-worker", __version__)
    assert about["Requires-Python"] == project["requires-python"]
    assert about["License-Expression"] == project["license"]
    assert set(about.get_all("Classifier", [])) == set(project["classifiers"])
    assert {url.split(", ")[0] for url in about.get_all("Project-URL", [])} == set(project["urls"])
    assert about["Description-Content-Type"] == "text/markdown"


def test_the_sdist_holds_what_the_wheel_is_built_from_and_nothing_else(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[0]) as sdist:
        members = sdist.getmembers()
    inside = {member.name.partition("/")[2] for member in members if member.isfile()}

    tracked = subprocess.run(
        ["git", "ls-files", *artifacts.SOURCES], cwd=ROOT, capture_output=True, text=True, check=True
    )
    made = {name for name in inside if name in {"PKG-INFO", "setup.cfg"} or ".egg-info/" in name}
    assert inside - made == set(tracked.stdout.split())
    assert {(member.uid, member.uname, int(member.mtime)) for member in members} == {(0, "", artifacts.EPOCH)}


def test_made_again_from_another_checkout_sdist_and_wheel_are_the_same_bytes(
    built: tuple[Path, Path], tmp_path: Path
) -> None:
    """Whoever doubts a release can build it: other times and rights of the files make no difference."""
    clone = tmp_path / "elsewhere" / "clone"
    clone.mkdir(parents=True)
    for name in (*artifacts.SOURCES, "requirements-build.txt"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, clone / name, copy_function=shutil.copyfile)
        else:
            shutil.copyfile(ROOT / name, clone / name)
        (clone / name).chmod(0o700)

    again = artifacts.python(tmp_path / "again", root=clone)

    for first, second in zip(built, again, strict=True):
        assert first.name == second.name
        assert first.read_bytes() == second.read_bytes(), first.name


def test_the_wheel_from_the_sdist_is_the_wheel(built: tuple[Path, Path], tmp_path: Path) -> None:
    """So the sdist is whole: distributions build from it."""
    with tarfile.open(built[0]) as sdist:
        sdist.extractall(tmp_path, filter="data")
    (root,) = tmp_path.iterdir()
    shutil.copyfile(ROOT / "requirements-build.txt", root / "requirements-build.txt")

    _, wheel = artifacts.python(tmp_path / "again", root=root)

    assert wheel.read_bytes() == built[1].read_bytes()


def test_the_wheel_is_installed_with_the_lock_into_an_empty_environment_and_runs(
    built: tuple[Path, Path], tmp_path: Path
) -> None:
    home = tmp_path / "venv"
    venv.create(home, with_pip=True)

    def run(program: str, *words: str | Path) -> str:
        done = subprocess.run(
            [home / "bin" / program, *words], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    locked = (
        "install",
        "--quiet",
        "--no-compile",
        "--disable-pip-version-check",
        "--no-deps",
        "--require-hashes",
    )
    run("pip", *locked, "--requirement", ROOT / "requirements-build.txt")
    run("pip", *locked, "--no-build-isolation", "--use-pep517", "--requirement", ROOT / "requirements.txt")
    run("pip", "install", "--quiet", "--no-deps", "--no-index", built[1])

    run("pip", "check")
    assert run("moderation-worker", "--version") == f"moderation-worker {__version__}\n"
    assert "topics" in run("moderation-worker", "--help")


def test_an_index_would_take_both_and_can_show_their_page(built: tuple[Path, Path], tmp_path: Path) -> None:
    """Judged by what publishes them, from its own lock."""
    home = tmp_path / "tools"
    venv.create(home, with_pip=True)
    words = (
        "install",
        "--quiet",
        "--no-compile",
        "--disable-pip-version-check",
        "--no-deps",
        "--require-hashes",
    )
    subprocess.run(
        [home / "bin" / "pip", *words, "--requirement", ROOT / "tests/release/tools.txt"], check=True
    )

    done = subprocess.run(
        [home / "bin" / "twine", "check", "--strict", *built], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout
    assert done.stdout.count("PASSED") == 2


def test_the_packaged_chart_is_of_this_version_and_names_the_released_image(
    helm: Path, tmp_path: Path
) -> None:
    packed = artifacts.chart(tmp_path, "ghcr.example.com", "owner/moderation-worker", DIGEST, helm=helm)

    with tarfile.open(packed) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
        text = archive.extractfile("moderation-worker/Chart.yaml")
        assert text is not None
        about = yaml.safe_load(text.read())
    assert (about["version"], about["appVersion"]) == (__version__, __version__)
    (image,) = yaml.safe_load(about["annotations"]["artifacthub.io/images"])
    assert image["image"] == f"ghcr.example.com/owner/moderation-worker@{DIGEST}"
    assert {"README.md", "RUNBOOK.md", "UPGRADING.md", "values.schema.json", "files/alerts.yaml"} <= inside
    assert not any(name.startswith("ci/") for name in inside), "the values of the tests"
    rendered = chart.helm("template", "trust", str(packed), "--values", str(chart.use("minimal")))
    assert f"image: ghcr.example.com/owner/moderation-worker@{DIGEST}\n" in rendered


def test_a_chart_whose_values_cannot_be_filled_in_is_not_packaged(
    released: Path, helm: Path, tmp_path: Path
) -> None:
    values = released / "helm" / "moderation-worker" / "values.yaml"
    values.write_text(values.read_text().replace('  digest: ""\n', "  digest: none\n"))

    with pytest.raises(artifacts.ReleaseError, match="digest"):
        artifacts.chart(tmp_path, "registry", "image", DIGEST, helm=helm, root=released)
