# What only tries the product out: a local Tencent API, an embedded Kafka, the demo and the checker that judges it.
#
# Nothing of the worker imports this, and nothing here decides anything for the worker. The simulator stays in the
# production image as a command; the demo and its Kafka do not.
