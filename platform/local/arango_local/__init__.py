"""A small server that speaks the part of ArangoDB's HTTP API that StreamForge uses."""
