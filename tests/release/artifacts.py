# What a release publishes, made without a registry: sdist and wheel, the packaged chart, the notes; and whether a tag may be
# released at all. The workflow calls it, and `make release-check` does the same here. No test is here.
#
#     python -m tests.release.artifacts check TAG [REPOSITORY]     refuses a tag that does not fit
#     python -m tests.release.artifacts notes VERSION              prints the changelog's part
#     python -m tests.release.artifacts python FOLDER              sdist and wheel
#     python -m tests.release.artifacts chart FOLDER REGISTRY REPOSITORY DIGEST

from __future__ import annotations

import gzip
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
from pathlib import Path
from typing import Final

import yaml

from tests.project.locks import PROJECT, ROOT
from worker import __version__

EPOCH: Final = 1_577_836_800
"""The time of every file in an archive, unless SOURCE_DATE_EPOCH says another: a zip knows none before 1980."""
SOURCES: Final = ("LICENSE", "README.md", "pyproject.toml", "worker")
"""What sdist and wheel are made of, and nothing else."""
CHART: Final = "helm/moderation-worker"
_BUILD: Final = "import sys, setuptools.build_meta as backend; to = sys.argv[1]; backend.build_sdist(to); backend.build_wheel(to)"


class ReleaseError(Exception):
    """Something that must be fixed before a release; the text is for the person who tags."""


def check(tag: str, repository: str | None = None, *, root: Path = ROOT) -> None:
    """Raises ReleaseError unless the tag is that of this version, the changelog tells of it, and every page names it."""
    version = tag.removeprefix("v")
    if tag != f"v{__version__}":
        raise ReleaseError(f"the tag is {tag}, and worker/__init__.py says {__version__}: tag v{__version__}")
    notes(version, root=root)
    about = yaml.safe_load((root / CHART / "Chart.yaml").read_text(encoding="utf-8"))
    if {about["version"], about["appVersion"]} != {version}:
        raise ReleaseError(f"{CHART}/Chart.yaml is of another version than {version}: make docs")
    home = PROJECT["project"]["urls"]["Homepage"]
    if repository is not None and home != repository:
        raise ReleaseError(
            f"pyproject.toml and Chart.yaml link to {home}, and this is {repository}: links would lead elsewhere"
        )


def notes(version: str, *, root: Path = ROOT) -> str:
    """Return what the changelog says of a version. Raises ReleaseError where it says nothing."""
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    found = re.search(
        rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d\n(.*?)(?=^## |^\[|\Z)",
        text,
        re.MULTILINE | re.DOTALL,
    )
    if found is None or not found[1].strip():
        raise ReleaseError(f"CHANGELOG.md has no section [{version}] with a date: give Unreleased its number")
    return found[1].strip() + "\n"


def python(folder: Path, *, root: Path = ROOT) -> tuple[Path, Path]:
    """Build sdist and wheel with the locked setuptools, the same bytes from the same sources, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as made:
        sources, built, home = Path(made) / "sources", Path(made) / "built", Path(made) / "venv"
        built.mkdir()
        _copy_sources(root, sources)
        venv.create(home, with_pip=True)
        install = ("install", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes")
        _run([home / "bin" / "pip", *install, "--requirement", root / "requirements-build.txt"])
        _run([home / "bin" / "python", "-c", _BUILD, built], where=sources)
        (sdist,), (wheel,) = built.glob("*.tar.gz"), built.glob("*.whl")
        (folder / sdist.name).write_bytes(_normal(sdist))
        return folder / sdist.name, Path(shutil.copyfile(wheel, folder / wheel.name))


def chart(
    folder: Path, registry: str, repository: str, digest: str, *, helm: str | Path = "helm", root: Path = ROOT
) -> Path:
    """Package the chart, with the released image as its default by its digest, and return the archive's path."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as made:
        copy = Path(shutil.copytree(root / CHART, Path(made) / "moderation-worker"))
        values = (copy / "values.yaml").read_text(encoding="utf-8")
        for name, old, new in (
            ("registry", '""', registry), ("repository", "moderation-worker", repository), ("digest", '""', digest),
        ):  # fmt: skip
            line = f"\n  {name}: {old}\n"
            if values.count(line) != 1:
                raise ReleaseError(f"values.yaml has no single line {line.strip()!r}")
            values = values.replace(line, f"\n  {name}: {new}\n")
        (copy / "values.yaml").write_text(values, encoding="utf-8")
        with (copy / "Chart.yaml").open("a", encoding="utf-8") as file:
            file.write(
                "  artifacthub.io/images: |\n"
                f"    - name: moderation-worker\n      image: {registry}/{repository}@{digest}\n"
            )
        _run([helm, "package", copy, "--destination", folder])
    return folder / f"moderation-worker-{__version__}.tgz"


def _copy_sources(root: Path, to: Path) -> None:
    """Copy what is packed, with times and rights that depend on no checkout."""
    to.mkdir()
    for name in SOURCES:
        if (root / name).is_dir():
            shutil.copytree(root / name, to / name, ignore=shutil.ignore_patterns("__pycache__", "*.py[co]"))
        else:
            shutil.copyfile(root / name, to / name)
    for path in (to, *to.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (_epoch(), _epoch()))


def _normal(sdist: Path) -> bytes:
    """Return an sdist with its members in order, of nobody, at one time: setuptools writes down who built it, and when."""
    plain = io.BytesIO()
    with (
        tarfile.open(sdist) as old,
        tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(old.getmembers(), key=lambda each: each.name):
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            member.mtime, member.pax_headers = _epoch(), {}
            member.mode = 0o755 if member.isdir() else 0o644
            new.addfile(member, old.extractfile(member) if member.isfile() else None)
    return gzip.compress(plain.getvalue(), mtime=_epoch())


def _epoch() -> int:
    return int(os.environ.get("SOURCE_DATE_EPOCH", EPOCH))


def _run(command: list[str | Path], *, where: Path | None = None) -> None:
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(_epoch()), "PYTHONHASHSEED": "0"}
    done = subprocess.run(
        command, cwd=where, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )  # fmt: skip
    if done.returncode:
        raise ReleaseError(f"{Path(command[0]).name} failed:\n{done.stdout[-4000:]}")


def main(words: list[str]) -> None:
    match words:
        case ["check", tag, *repository]:
            check(tag, *repository[:1])
        case ["notes", version]:
            print(notes(version), end="")  # noqa: T201 - a program's answer
        case ["python", folder]:
            print(*python(Path(folder)), sep="\n")  # noqa: T201 - a program's answer
        case ["chart", folder, registry, repository, digest]:
            print(chart(Path(folder), registry, repository, digest))  # noqa: T201 - a program's answer
        case _:
            sys.exit("python -m tests.release.artifacts check|notes|python|chart …: see the file's beginning")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ReleaseError as refusal:
        sys.exit(f"no release: {refusal}")
