# A local Tencent Chat REST API: five endpoints with state, signatures, quota and faults, for the demo, for the tests and
# for whoever wants to try a detector without a Tencent account.
#
# It judges the worker's requests, so nothing of the worker's own tables may be imported here.

from worker.simulator.faults import Faults as Faults
from worker.simulator.server import Simulator as Simulator
from worker.simulator.server import SimulatorConfig as SimulatorConfig
from worker.simulator.signature import App as App
