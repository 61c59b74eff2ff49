"""The queue-manager's memory: what it asks of a store, on ArangoDB and in memory."""
