"""``python -m arango_candles``."""

from arango_candles.main import main

main()
