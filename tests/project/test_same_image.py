# The judge of `make release-check` that finds an image built twice to be the same: it sees every kind of difference but times.

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from tests.release import roots

if TYPE_CHECKING:
    from pathlib import Path


def _root(path: Path, content: bytes = b"code", **changes: Any) -> dict[str, tuple[object, ...]]:
    """A root with one program, in a folder, and a link to it."""
    with tarfile.open(path, "w") as root:
        for name, given in (
            ("opt", {"type": tarfile.DIRTYPE, "mode": 0o755}),
            ("opt/worker", {"mode": 0o755, "size": len(content), **changes}),
            ("link", {"type": tarfile.SYMTYPE, "linkname": "opt/worker"}),
        ):
            member = tarfile.TarInfo(name)
            for attribute, value in given.items():
                setattr(member, attribute, value)
            root.addfile(member, io.BytesIO(content) if member.isreg() else None)
    return roots.files(path)


def test_images_that_differ_in_times_alone_are_the_same(tmp_path: Path) -> None:
    once, twice = _root(tmp_path / "once"), _root(tmp_path / "twice", mtime=1_700_000_000)

    assert once.keys() == {"opt", "opt/worker", "link"}
    assert roots.differing(once, twice) == set()


@pytest.mark.parametrize(
    "changes",
    [
        {"content": b"mode"},
        {"content": b"code and more"},
        {"mode": 0o4755},
        {"uid": 10001},
        {"gid": 10001},
        {"type": tarfile.SYMTYPE, "size": 0, "linkname": "/tmp/x"},  # noqa: S108 - nothing is written there
        {"name": "opt/other"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_images_that_differ_in_one_file_are_not(tmp_path: Path, changes: dict[str, Any]) -> None:
    once, twice = _root(tmp_path / "once"), _root(tmp_path / "twice", **changes)

    assert roots.differing(once, twice) == {"opt/worker", changes.get("name", "opt/worker")}
