"""Runs the worker: ``python -m loader_candles``."""

from loader_candles.main import main

main()
