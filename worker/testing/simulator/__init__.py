# A local Tencent Chat REST API: five endpoints with state, signatures, quota and faults, for the demo, for the tests and
# for whoever wants to try a detector without a Tencent account.
#
# It judges the worker's requests, so nothing of the worker's own tables may be imported here.

from __future__ import annotations

from worker.testing.simulator.faults import Faults as Faults
from worker.testing.simulator.server import Simulator as Simulator
from worker.testing.simulator.server import SimulatorConfig as SimulatorConfig
from worker.testing.simulator.signature import SimulatedApp as SimulatedApp
