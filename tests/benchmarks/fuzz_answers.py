# Hostile answers by the hundred thousand: `python -m tests.benchmarks.fuzz_answers --count 200000 [--seed 0]`.
#
# No exception, none slower than 50 ms a megabyte, no part of a secret kept, and memory stays flat; else it ends with 1 and shows
# the answer. CPU time is measured, so that other programs on the machine do not count.

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

from tests.unit.tencent.hostile_answers import Judge, hostile

GROWTH_MIB = 16.0
"""More resident memory than after the first tenth is no allocator's noise."""


def resident_mib() -> float:
    """What this process holds."""
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmRSS in /proc/self/status")


def main() -> int:
    """Runs it; returns the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw, judge = random.Random(options.seed), Judge()
    settled = 0.0
    size = 0
    began = time.monotonic()
    for number in range(options.count):
        body = hostile(draw)
        size += len(body)
        fault = judge.fault(body)
        if fault is not None:
            print(f"answer {number} of seed {options.seed}: {fault.what}\n{fault.body[:2000]!r}")
            return 1
        if number == options.count // 10:
            settled = resident_mib()
    grown = resident_mib() - settled
    print(
        f"{options.count:,} answers, {size / 1e6:,.0f} MB, {judge.read:,} of them readable, in {time.monotonic() - began:.0f} s: "
        f"no exception, no secret; the slowest took {judge.slowest * 1000:.1f} ms a megabyte; memory grew by {grown:.1f} MiB"
    )
    return 0 if grown <= GROWTH_MIB else 1


if __name__ == "__main__":
    sys.exit(main())
