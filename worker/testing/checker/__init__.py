# The independent judge: commands, topics and the API's log in, findings out. It believes none of the worker's counters.
#
# Nothing here imports the worker, the simulator or the demo: what the checker knows of the contract and of the log's
# format is written down a second time, so that a mistake in one is found by the other.
