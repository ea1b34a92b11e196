# A local Tencent Chat REST API: endpoints with state, signatures, quota and faults, for the demo, the tests and
# anyone who wants to try a detector without a Tencent account.
#
# It judges the worker's requests, so it must not import the worker's tables.

from __future__ import annotations

from worker.testing.simulator.faults import FaultValues as FaultValues
from worker.testing.simulator.server import Simulator as Simulator
from worker.testing.simulator.server import SimulatorConfig as SimulatorConfig
from worker.testing.simulator.signature import SimulatedApp as SimulatedApp
