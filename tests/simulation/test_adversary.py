# The promises under every order of events that an adversary finds, in the world of the simulation.

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from tests.simulation.adversary import Adversary

pytestmark = pytest.mark.usefixtures("few_members_at_once")

Adversary.TestCase.settings = settings(
    max_examples=150,
    stateful_step_count=60,
    deadline=None,
    derandomize=True,  # the default run goes red for a change of the code, not by chance
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
test_every_promise_holds_whatever_the_order_of_events = Adversary.TestCase
