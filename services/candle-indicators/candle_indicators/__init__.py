"""Adds technical indicators to a stream of candles."""
