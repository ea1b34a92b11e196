# The promises as invariants of the engine, under every order of events that an adversary finds.

from hypothesis import HealthCheck, settings

from tests.property.machine import EngineMachine

EngineMachine.TestCase.settings = settings(
    max_examples=150,
    stateful_step_count=60,
    deadline=None,
    derandomize=True,  # the default run goes red for a change of the code, not by chance
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
test_every_promise_holds_whatever_the_order_of_events = EngineMachine.TestCase
