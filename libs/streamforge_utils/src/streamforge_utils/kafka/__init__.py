"""Kafka, the one vendor of this package: log-in and errors, topics and offsets, streams in transactions, control."""
