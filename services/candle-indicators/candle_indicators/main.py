"""The service's one composition."""

from candle_indicators.enrichment import EnrichCandles
from candle_indicators.params import IndicatorParams
from streamforge_utils.contracts.candle import SCHEMA
from streamforge_utils.pipeline import Pipeline
from streamforge_utils.worker import WorkerContext, run_worker

TARGET = "candle-indicators"


def build(context: WorkerContext[IndicatorParams]) -> Pipeline:
    """Read candles, add indicators, write candles."""
    settings = context.settings

    def chain() -> list[EnrichCandles]:
        interval = settings.type.interval if settings.type else None
        return [EnrichCandles(context.params, symbol=settings.symbol, interval=interval, report=context.report)]

    return Pipeline(processors=chain, schema=SCHEMA)


def main() -> None:
    """Run until the work is done; exits with the worker's code."""
    raise SystemExit(run_worker(TARGET, IndicatorParams, build))
