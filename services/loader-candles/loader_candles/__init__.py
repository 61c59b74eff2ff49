"""The target loader-candles: an exchange's candles, from wherever they are, into a workflow's stream."""
