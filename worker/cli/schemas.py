# Writes the JSON Schemas of commands and outcomes: `python -m worker.cli.schemas [folder]`, by default to config/.
#
# What stands in them is decided in domain/schemas.py. A test fails when the files of config/ are stale.

import sys
from pathlib import Path

from worker.domain.schemas import documents


def write(folder: Path) -> list[Path]:
    """
    Write all schemas into a folder that exists; returns the files.
    """
    written = []
    for name, text in documents().items():
        path = folder / name
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written


if __name__ == "__main__":
    for path in write(Path(sys.argv[1] if len(sys.argv) > 1 else "config")):
        print(path)
