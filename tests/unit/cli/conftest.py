# A command mutes the libraries for the rest of its process, and here the process goes on to other tests.

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.restored_logging import restored_logging

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Restores what a command has configured, so that a later test sees what the libraries log."""
    with restored_logging():
        yield
