# What it costs to read a command: `python tests/benchmarks/bench_decode.py`.
#
# CPU time of this process a record, the least of some rounds: what the machine does beside it only adds. No test: it
# asserts nothing. Aim: at most 3 µs for a valid command of one member.

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.unit.domain.samples import BAN, DECODER, EVERYTHING, Record, without

ROUNDS: Final = 7
SECONDS: Final = 0.1

ONE: Final = {**BAN, "user_ids": ["brennanli3"], "command_id": "0c7f9b0e-5b0e-4c39-9d59-1d2f5a0c7b11"}
RECORDS: Final[dict[str, Any]] = {
    "one member": ONE,
    "one member, with issued_at": {**ONE, "issued_at": "2029-12-31T23:59:58Z"},
    "one member, with banned_until": {**without(ONE, "duration"), "banned_until": "2030-01-01T00:00:00Z"},
    "one member, with metadata": {**ONE, "metadata": {"score": 0.97, "model": "m-1"}},
    "one member, a Chinese reason": json.dumps({**ONE, "reason": "垃圾信息"}, ensure_ascii=False).encode(),
    "one member, the same with escapes": {**ONE, "reason": "垃圾信息"},
    "twenty members": {**ONE, "user_ids": [f"user-{number}" for number in range(20)]},
    "every field": EVERYTHING,
    "refused: an unknown field": {**ONE, "resaon": "x"},
    "refused: a protected user": {**ONE, "user_ids": ["administrator"]},
    "refused: a megabyte of reason": {**ONE, "reason": "x" * 2**20},
    "refused: a megabyte of brackets": b'{"command_id":"c","metadata":'
    + b'[{"a":' * 2**17
    + b"1"
    + b"}]" * 2**17
    + b"}",
}


def microseconds(record: Record) -> float:
    """CPU time to decode it once."""
    times = 1
    while True:
        begin = time.process_time()
        for _ in range(times):
            DECODER.decode(record)
        spent = time.process_time() - begin
        if spent >= SECONDS:
            return spent / times * 1e6
        times *= 2


def main() -> None:
    """Print one line for each kind of record."""
    for name, value in RECORDS.items():
        record = Record(value if isinstance(value, bytes) else json.dumps(value).encode())
        assert record.value is not None
        least = min(microseconds(record) for _ in range(ROUNDS))
        sys.stdout.write(f"{least:12.2f} µs  {len(record.value):9,} bytes  {name}\n")


if __name__ == "__main__":
    main()
