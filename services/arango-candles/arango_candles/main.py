"""The service's one composition."""

from arango_candles.validation import ValidateCandle
from streamforge_utils.arango import ArangoSink, Index
from streamforge_utils.contracts import names
from streamforge_utils.errors import ConfigurationError
from streamforge_utils.pipeline import Pipeline
from streamforge_utils.settings import NoParams
from streamforge_utils.worker import WorkerContext, run_worker

TARGET = "arango-candles"


def build(context: WorkerContext[NoParams]) -> Pipeline:
    """Read candles, check them, store them in the workflow's collection.

    Raises:
        ConfigurationError: COLLECTION_NAME is not the name of a collection.
    """
    settings = context.settings
    if not names.is_collection(settings.collection_name):
        raise ConfigurationError(f"COLLECTION_NAME {settings.collection_name!r} is not the name of a collection")

    def chain() -> list[ValidateCandle]:
        return [
            ValidateCandle(
                queue_id=settings.queue_id,
                symbol=settings.symbol,
                workflow_type=settings.type,
                time_range=settings.time_range,
            )
        ]

    sink = ArangoSink(settings.arango, settings.collection_name, indexes=[Index(("open_time",))])
    return Pipeline(processors=chain, sink=sink)


def main() -> None:
    """Run until the work is done; exits with the worker's code."""
    raise SystemExit(run_worker(TARGET, NoParams, build))
