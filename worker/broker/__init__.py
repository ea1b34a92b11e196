# The package that knows Kafka, and nothing else: the consumer, the transactional publisher, the restoration of a partition, the
# topics. kafka-python is imported only here. kafka_private_parts.py says where its private parts are used; contract tests check what
# we assume about each of them.
