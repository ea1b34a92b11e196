# A few thousand of the records that tests/benchmarks/fuzz_records.py makes by the million, under a seed.

from __future__ import annotations

import pytest

from tests.benchmarks import fuzz_records
from worker.domain.contract.rejections import REJECTIONS


@pytest.mark.parametrize("seed", [1, 2])
def test_thousands_of_records_are_read_without_a_fault(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """How long they take is left to the long run: under coverage everything does."""
    monkeypatch.setattr(fuzz_records, "FLOOR", 60.0)

    ends, problems, _, _ = fuzz_records.fuzz(3_000, seed)

    assert problems == []
    assert set(ends) <= {*REJECTIONS, "command"}
    assert len(ends) > 12, "it must get past the first bracket"
