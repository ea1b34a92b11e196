# The demo: a raid on live rooms, played with a real Kafka, the local Tencent API and the worker, while things go wrong.
#
# It starts the worker from outside, as anybody would, and imports nothing of it. The checker judges what came of it.
