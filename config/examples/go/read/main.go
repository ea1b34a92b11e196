// Reads outcomes as they come: franz-go.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"

	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(setting("KAFKA", "localhost:9092")),
		kgo.ConsumeTopics(setting("TOPIC", "moderation.outcomes")),
		kgo.ConsumerGroup(setting("GROUP", "example-go")),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), // else you see outcomes twice after a crash
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
	)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	for {
		fetches := client.PollFetches(context.Background())
		if err := fetches.Err(); err != nil {
			log.Fatal(err)
		}
		fetches.EachRecord(func(record *kgo.Record) {
			var outcome struct {
				CommandID string `json:"command_id"`
				Status    string `json:"status"`
			}
			if err := json.Unmarshal(record.Value, &outcome); err != nil {
				log.Fatal(err)
			}
			fmt.Println(outcome.CommandID, outcome.Status)
		})
		// After the outcomes have been dealt with.
		if err := client.CommitUncommittedOffsets(context.Background()); err != nil {
			log.Fatal(err)
		}
	}
}

func setting(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}
