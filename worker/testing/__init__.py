# What only tries the product out, by purpose: simulator (the local Tencent API), kafka (an embedded broker), checker
# (the independent judge), demo (all of them together).
#
# Nothing of the worker imports this except its commands `simulate` and `demo`, and nothing here decides anything for the
# worker. The production image carries the simulator alone.
