# How the parts are joined, where that alone keeps a promise.

from pathlib import Path
from typing import Any

from tests.unit.settings.writing import KEY, load, minimal
from worker.domain.effects import Notice
from worker.runtime.wiring import _hiding_new_keys


class Told:
    """
    A log that remembers in which order it hid and told.
    """

    def __init__(self) -> None:
        self.said: list[str] = []

    def hide(self, secret: str) -> None:
        self.said.append(f"hides {secret}")

    def notice(self, notice: Notice) -> None:
        self.said.append(f"tells {notice.event}")


def test_a_key_that_came_into_its_file_is_hidden_before_anything_more_is_told(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(KEY)
    settings = load(minimal(app={"secret_key": None, "secret_key_file": str(file)}))
    told: Any = Told()
    tell = _hiding_new_keys(settings, told)
    file.write_text("the-rotated-key")

    tell(Notice("signature.renewed", "info", {}))
    tell(Notice("signature.key_changed", "info", {}))

    assert told.said == ["tells signature.renewed", "hides the-rotated-key", "tells signature.key_changed"]
