"""Real Apache Kafka 4.2 (KRaft, one node) from package registries alone: jars, configuration, log-in, topics."""
