"""The embedded stack: what stands in for a cluster on one machine."""
