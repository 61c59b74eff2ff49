"""ArangoDB's HTTP API: one module per area, each with its table of routes."""
