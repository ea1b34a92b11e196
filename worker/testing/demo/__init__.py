# The demo and what it stands on: a real Apache Kafka without Docker, the load, and an independent checker.
#
# Nothing here imports the engine, the adapters or the runtime: the demo judges the worker from outside.
