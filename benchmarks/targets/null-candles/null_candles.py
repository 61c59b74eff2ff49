"""A worker that is arango-candles without the store: the same checks, a sink that keeps nothing."""

from arango_candles.main import build as build_storing
from streamforge_utils.pipeline import Pipeline
from streamforge_utils.settings import NoParams
from streamforge_utils.testing import NullSink
from streamforge_utils.worker import WorkerContext, run_worker


def build(context: WorkerContext[NoParams]) -> Pipeline:
    """Arango-candles' pipeline with another sink."""
    whole = build_storing(context)
    return Pipeline(processors=whole.processors, sink=NullSink(), batching=whole.batching)


if __name__ == "__main__":
    raise SystemExit(run_worker("null-candles", NoParams, build))
