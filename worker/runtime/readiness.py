# Whether the worker is ready: collects every reason why it is not, with its remedy, for /readyz and the metric `ready`.
#
# Not here: when something becomes a reason (the engine, its runner, the topic watch, the broker), serving it
# (status_server.py).

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.runtime.status_server import ReadinessObstacle

if TYPE_CHECKING:
    from worker.domain.effects import HaltReason
    from worker.runtime import ports
    from worker.runtime.engine_runner import EngineRunner
    from worker.runtime.topic_watch import TopicWatch


class Readiness:
    """Knows why the worker is not ready, of everything that can be in its way."""

    def __init__(
        self,
        runner: EngineRunner,
        watch: TopicWatch,
        refusals: ports.ActiveKafkaRefusals,
        follower: ports.ControlFollower | None = None,
    ) -> None:
        self._follower = follower
        self._runner = runner
        self._watch = watch
        self._refusals = refusals

    def obstacles(self) -> list[ReadinessObstacle]:
        """Return why the worker is not ready; empty when it is. Kafka's refusals come first: others often follow from them."""
        found = [ReadinessObstacle(refusal.reason, refusal.remedy) for refusal in self._refusals.lasting]
        if (reason := self._runner.unready_reason) is not None:
            found.append(ReadinessObstacle(reason))
        found += [ReadinessObstacle(str(doubt), doubt.remedy) for doubt in self._runner.partitions_in_doubt]
        unfit = () if self._follower is None else self._follower.unfit
        found += [
            ReadinessObstacle(f"topic {problem.value} does not fit any more", problem.remedy)
            for problem in self._watch.obstacles
            if problem not in unfit  # else it is reported with what follows from it
        ]
        if unfit:
            remedy = "; ".join(problem.remedy for problem in unfit)
            found.append(
                ReadinessObstacle("the control topic does not fit: no new order is followed", remedy)
            )
        return found + [_halted(halt) for halt in self._runner.halts]

    def __repr__(self) -> str:
        return f"<Readiness, {len(self.obstacles())} obstacles>"


def _halted(halt: HaltReason) -> ReadinessObstacle:
    where = halt.app if halt.endpoint is None else f"{halt.endpoint} of {halt.app}"
    return ReadinessObstacle(f"{where} is halted: {halt.reason}", halt.remedy)
