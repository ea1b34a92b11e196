# The root of an image as one archive, and in what two of them differ. Nothing is built here.

from __future__ import annotations

import hashlib
import tarfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def files(archive: Path) -> dict[str, tuple[object, ...]]:
    """Each file of an exported root: its kind, rights and owner, where it leads, and what is in it; not its times."""
    with tarfile.open(archive) as root:
        return {
            member.name: (
                member.type, member.mode, member.uid, member.gid, member.linkname, member.devmajor, member.devminor,
                hashlib.sha256(content.read()).hexdigest() if (content := root.extractfile(member) if member.isreg() else None) else "",
            )
            for member in root
        }  # fmt: skip


def differing(once: dict[str, tuple[object, ...]], twice: dict[str, tuple[object, ...]]) -> set[str]:
    """The names of the files that are not the same in both, or are in one of them alone."""
    return {name for name in once.keys() | twice.keys() if once.get(name) != twice.get(name)}
