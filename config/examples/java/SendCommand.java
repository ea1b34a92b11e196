// Sends one command and waits until Kafka has it: org.apache.kafka:kafka-clients. Its default places a key by murmur2.

import java.util.Map;
import java.util.UUID;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringSerializer;

class SendCommand {
    public static void main(String[] arguments) throws Exception {
        var environment = System.getenv();
        var topic = environment.getOrDefault("TOPIC", "moderation.commands");
        var commandId = UUID.randomUUID().toString(); // the idempotency key: keep it when you try again
        var group = "group-42";
        var command = """
            {"command_id": "%s", "action": "group.ban_group_member", "group_id": "%s", "user_ids": ["user-1"],
             "duration": 3600, "reason": "spam", "issuer": "example-java"}""".formatted(commandId, group);

        Map<String, Object> settings = Map.of(
            "bootstrap.servers", environment.getOrDefault("KAFKA", "localhost:9092"),
            "acks", "all");
        try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            // The key is the target's id: its commands stay in order, on one partition.
            var sent = producer.send(new ProducerRecord<>(topic, group, command)).get();
            System.out.printf("%s is %s-%d-%d%n", commandId, sent.topic(), sent.partition(), sent.offset());
        }
    }
}
