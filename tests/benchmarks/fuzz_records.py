# Records that nobody would write, by the million: `python -m tests.benchmarks.fuzz_records --count 1000000 --seed 1`.
#
# Valid commands that are damaged as bytes and as values, hostile shapes, foreign formats, noise. It ends with exit code 1 when the
# decoder raises, says what no outcome can hold, takes longer than 50 ms a megabyte, or when memory grows. The same seed gives
# the same records.

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final

import msgspec

from tests.unit.domain.contract.test_command_decoding_fuzzed import SNIPPETS, VALID
from tests.unit.domain.contract.test_foreign_format_hints import FOREIGN
from tests.unit.domain.contract.test_linear_time import HOSTILE
from tests.unit.domain.samples import DECODER, EVERYTHING, ONE_OF_EACH, Record, encoded
from worker.domain.contract.field_checks import FIELDS
from worker.domain.contract.rejections import REJECTIONS, Rejected

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS_A_BYTE: Final = 0.050 / 1e6
FLOOR: Final = 0.003
"""Seconds. Any record may take so long: a short one costs what its sentences cost, and not its bytes."""
GROWTH: Final = 16 * 1024 * 1024
"""Bytes. So much may memory grow after the first tenth: what the interpreter's own pools do."""
SIZES: Final = (100, 1_000, 10_000, 100_000)

FOREIGN_BYTES: Final = [row[1] if isinstance(row[1], bytes) else encoded(row[1]) for row in FOREIGN]
LEAVES: Final[list[Any]] = [
    *(None, True, 0, -1, 60, 2**32, 10**30, 1.5, 1e300, float("inf"), float("nan"), "", " ", "u", "u ", "\u200b", "\ufeffx"),
    *("administrator", "ADMINISTRATOR", "\uff2doderator", "x" * 2000, "\ud800", "2030-01-01T00:00:00Z", "1900000000", "\x00"),
    *("group.ban_group_member", "ban", "unban", "main", "third", {}, [], ["u"], ["u", 1], {"a": {"b": []}}, "60"),
]  # fmt: skip
HEADERS: Final = [b"", b"e-1", b"\xff", b"x" * 200, b"2030-01-01T00:00:00Z", None]


def damaged(random: Random) -> bytes:
    """Bytes with one to four cuts, insertions or repetitions."""
    value = random.choice(VALID if random.random() < 0.8 else FOREIGN_BYTES)
    for _ in range(random.randint(1, 4)):
        place, other = random.randint(0, len(value)), random.randint(0, len(value))
        snippet = random.choice([*SNIPPETS, b"", value[other : other + 25], random.randbytes(3)])
        value = value[:place] + snippet + value[place + random.choice([0, 0, 1, 2, 5, 20]) :]
    return value


def altered(random: Random) -> bytes:
    """A command with up to four fields that are missing, misspelt, or something else."""
    command = dict(random.choice([*ONE_OF_EACH, EVERYTHING]))
    for _ in range(random.randint(1, 4)):
        name = random.choice([*FIELDS])
        spelt = random.choice(
            [
                name,
                name,
                name.upper(),
                name.replace("_", ""),
                name.title(),
                "x",
                "data",
                "specversion",
                "payload",
            ]
        )
        if random.random() < 0.7:
            command[spelt] = random.choice(LEAVES)
        else:
            command.pop(name, None)
    wrapped: Any = random.choice(
        [command] * 8 + [{"payload": command, "schema": {}}, {"specversion": "1.0", "data": command}]
    )
    text = json.dumps(
        wrapped, ensure_ascii=random.random() < 0.5, separators=random.choice([None, (",", ":")])
    )
    return text.encode("utf-8", "surrogatepass")


def hostile(random: Random) -> bytes:
    """A hostile shape of some length, sometimes cut or with noise in it."""
    value = random.choice([*HOSTILE.values()])(random.choice(SIZES) + random.randint(0, 50))
    if random.random() < 0.5:
        place = random.randint(0, len(value))
        value = value[:place] + random.choice([b"", *SNIPPETS]) + value[place + random.randint(0, 5) :]
    return value


def noise(random: Random) -> bytes:
    """Pieces in any order, or bytes."""
    if random.random() < 0.3:
        return random.randbytes(random.randint(0, 60))
    return b"".join(random.choices(SNIPPETS, k=random.randint(0, 20)))


KINDS: Final[dict[Callable[[Random], bytes], int]] = {damaged: 50, altered: 45, noise: 4, hostile: 1}
"""What is made, and how often of a hundred: the hostile ones are long."""


def problem_of(value: bytes, headers: tuple[tuple[str, bytes | None], ...]) -> tuple[str | None, str, float]:
    """What is wrong with the way in which a record is read, what became of it, and the CPU time that it took."""
    record = Record(value, headers=headers)
    begin = time.thread_time()
    try:
        decoded = DECODER.decode(record)
    except Exception as error:  # noqa: BLE001 - that is what is looked for
        return f"it raises {error!r}", "raised", 0.0
    spent = time.thread_time() - begin
    allowed = max(FLOOR, SECONDS_A_BYTE * len(value))
    for _ in range(5):
        if spent <= allowed:
            break
        begin = time.thread_time()  # what only happened once was the machine
        DECODER.decode(record)
        spent = min(spent, time.thread_time() - begin)
    if not isinstance(decoded, Rejected):
        return (None if spent <= allowed else f"it takes {spent:.4f} s"), "command", spent
    sentences = [decoded.message, *(problem.message for problem in decoded.also)]
    if decoded.code not in REJECTIONS or any(problem.code not in REJECTIONS for problem in decoded.also):
        return "its code is not in the table", decoded.code, spent
    if len(sentences) > 11 or not all(text.isprintable() and len(text.encode()) <= 512 for text in sentences):
        return "its sentences cannot be shown", decoded.code, spent
    try:
        msgspec.json.encode(decoded)
    except Exception as error:  # noqa: BLE001 - that is what is looked for
        return f"no outcome can tell of it: {error!r}", decoded.code, spent
    return (None if spent <= allowed else f"it takes {spent:.4f} s"), decoded.code, spent


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096


def fuzz(count: int, seed: int) -> tuple[Counter[str], list[str], float, int]:
    """
    Decode this many records. Returns what became of them, the problems, the slowest in seconds a megabyte, and memory's growth.
    """
    random = Random(seed)
    ends: Counter[str] = Counter()
    problems: list[str] = []
    slowest, before = 0.0, 0
    kinds, weights = list(KINDS), list(KINDS.values())
    for number in range(count):
        if number == count // 10:
            before = resident()
        value = random.choices(kinds, weights)[0](random)
        headers = (
            ((random.choice(["ce_id", "ce_time", "traceparent"]), random.choice(HEADERS)),)
            if random.random() < 0.1
            else ()
        )
        problem, end, spent = problem_of(value, headers)
        ends[end] += 1
        if len(value) >= SIZES[-1]:
            slowest = max(slowest, spent / len(value) * 1e6)
        if problem is not None and len(problems) < 20:
            problems.append(f"record {number} of seed {seed}: {problem}: {value[:200]!r}")
    grown = resident() - before
    if grown > GROWTH:
        problems.append(f"memory has grown by {grown / 2**20:.1f} MiB after the first tenth")
    return ends, problems, slowest, grown


def main() -> int:
    """Fuzz, and print what was found."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    ends, problems, slowest, grown = fuzz(asked.count, asked.seed)
    for end, times in ends.most_common():
        sys.stdout.write(f"{times:10,}  {end}\n")
    sys.stdout.write(
        f"slowest of the long ones {slowest * 1e3:.1f} ms a megabyte, memory {grown / 2**20:+.1f} MiB\n"
    )
    sys.stdout.writelines(f"{problem}\n" for problem in problems)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
