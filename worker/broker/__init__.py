# The package that knows Kafka, and nothing else: the consumer, the transactional publisher, the restoration of a partition, the
# topics. kafka-python is imported only here. Its private parts are used in kafka_private_parts.py and bounded_record_batches.py alone;
# contract tests check what we assume about each of them.
