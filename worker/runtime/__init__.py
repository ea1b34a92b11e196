# What runs the worker: the loop and its life, logs, metrics and HTTP. Only wiring.py builds concrete things.
