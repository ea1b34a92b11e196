# The room that knows Kafka, and nothing else: the consumer, the transactional publisher, the restoration of a
# partition, the topics. Only here is kafka-python imported; where it must be reached behind its public face,
# kafka_patches.py does it, and a contract test holds each such place to what we believe of it.
