# The embedded Kafka of the demo and the tests: a real broker without Docker, as a child process.
#
# child_process.py starts any program beside this one, die_with_parent.py lets it die with its parent; the demo runs the worker
# and the simulator with them too. Nothing here imports anything else of ours.
