// Sends one command and waits until Kafka has it: franz-go. Its default places a key by murmur2, as Java's producer does.
// With Sarama or kafka-go, set a murmur2 partitioner.
package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log"
	"os"

	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	client, err := kgo.NewClient(kgo.SeedBrokers(setting("KAFKA", "localhost:9092")))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	commandID := rand.Text() // the idempotency key: keep it when you try again
	group := "group-42"
	value, err := json.Marshal(map[string]any{
		"command_id": commandID,
		"action":     "group.ban_group_member",
		"group_id":   group,
		"user_ids":   []string{"user-1"},
		"duration":   3600,
		"reason":     "spam",
		"issuer":     "example-go",
	})
	if err != nil {
		log.Fatal(err)
	}
	// The key is the target's id: its commands stay in order, on one partition.
	record := &kgo.Record{Topic: setting("TOPIC", "moderation.commands"), Key: []byte(group), Value: value}
	sent, err := client.ProduceSync(context.Background(), record).First()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s is %s-%d-%d\n", commandID, sent.Topic, sent.Partition, sent.Offset)
}

func setting(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}
