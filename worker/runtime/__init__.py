# What runs the worker: the loop around the engine, start and stop, logs, metrics, health.
#
# The modules see the adapters through protocols (ports.py); only wiring.py builds concrete things.
