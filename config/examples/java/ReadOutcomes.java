// Reads outcomes as they come: org.apache.kafka:kafka-clients. The headers tell enough; the value is JSON.

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.StringDeserializer;

class ReadOutcomes {
    public static void main(String[] arguments) {
        var environment = System.getenv();
        Map<String, Object> settings = Map.of(
            "bootstrap.servers", environment.getOrDefault("KAFKA", "localhost:9092"),
            "group.id", environment.getOrDefault("GROUP", "example-java"),
            "isolation.level", "read_committed", // else you see outcomes twice after a crash
            "auto.offset.reset", "earliest",
            "enable.auto.commit", false);
        try (var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of(environment.getOrDefault("TOPIC", "moderation.outcomes")));
            while (true) {
                for (var outcome : consumer.poll(Duration.ofSeconds(1))) {
                    System.out.println(header(outcome, "command_id") + " " + header(outcome, "status"));
                }
                consumer.commitSync(); // after the outcomes have been dealt with
            }
        }
    }

    static String header(ConsumerRecord<String, String> outcome, String name) {
        return new String(outcome.headers().lastHeader(name).value(), StandardCharsets.UTF_8);
    }
}
