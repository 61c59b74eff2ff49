"""Behaves as a worker and moves nothing: shows that Kafka is reached, makes load, fails when asked to."""
