# Thousands of hostile answers: none raises, none is slow, none gets a secret through. Many more: tests/benchmarks/fuzz_answers.py.

from __future__ import annotations

import random

import pytest

from tests.unit.tencent.hostile_answers import KEY, MOST, SIGNATURE, Judge, hostile
from worker.redaction import Redaction
from worker.tencent import answers


@pytest.mark.parametrize("seed", range(4))
def test_no_hostile_answer_raises_is_slow_or_gets_a_secret_through(seed: int) -> None:
    """An exception would end the call's task, and a second in here is a second without any call."""
    draw, judge = random.Random(seed), Judge()

    faults = [fault for fault in (judge.fault(hostile(draw)) for _ in range(250)) if fault is not None]

    assert [fault.what for fault in faults] == []
    assert judge.read > 50, "hardly one could be read: nothing was shown"


def test_the_judge_notices_what_it_looks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    body = b'{"ErrorCode":1,"ErrorInfo":"%s"}'
    redaction = Redaction()
    monkeypatch.setattr(Redaction, "clean", lambda _, text, most=None: text[:most])
    judge = Judge()

    for secret in (KEY, SIGNATURE[20:60]):
        fault = judge.fault(body % secret.encode())
        assert fault is not None
        assert "kept a part of a secret" in fault.what
    monkeypatch.setattr(answers, "read", lambda *_: 1 / 0)
    fault = judge.fault(body % b"x" * (MOST // 40))
    assert fault is not None
    assert "ZeroDivisionError" in fault.what
    assert redaction.clean(KEY) == KEY
