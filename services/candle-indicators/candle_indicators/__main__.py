"""``python -m candle_indicators``."""

from candle_indicators.main import main

main()
