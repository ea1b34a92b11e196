# The example in the engine's docstring, which newcomers read first, does what it says.

from __future__ import annotations

import doctest

from worker.domain import engine


def test_the_example_of_the_engine_runs() -> None:
    results = doctest.testmod(engine)

    assert results.attempted > 0
    assert results.failed == 0
