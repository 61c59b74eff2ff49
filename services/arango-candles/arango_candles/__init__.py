"""Stores candles in ArangoDB."""
