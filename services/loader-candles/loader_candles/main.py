"""Puts the loader together: params and workflow -> source -> the stream ``data``."""

from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict

from loader_candles import params as sources
from loader_candles.files_source import FilesSource
from loader_candles.local_files import LocalFiles
from loader_candles.pacing import PacedSource
from loader_candles.params import LoaderParams
from loader_candles.series import Series
from loader_candles.simulated_source import SimulatedSource
from streamforge_utils.contracts import candle
from streamforge_utils.pipeline import Pipeline, Source
from streamforge_utils.settings import read_settings
from streamforge_utils.worker import WorkerContext, run_worker


class HostSettings(BaseSettings):
    """What the operator allows, not the request."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True, use_attribute_docstrings=True)

    data_roots: str = "/"
    """Folders below which files may be read, separated by ``:`` (DATA_ROOTS)."""

    @property
    def roots(self) -> list[Path]:
        """The folders."""
        return [Path(root) for root in self.data_roots.split(":") if root]


def source_of(params: LoaderParams, series: Series, host: HostSettings) -> Source:
    """The source that the params name."""
    if params.source == sources.SIMULATED:
        return SimulatedSource(series, seed=params.seed, is_real_time=params.rate is None)
    return FilesSource("file", LocalFiles(params.source, host.roots, series), series)


def build(context: WorkerContext[LoaderParams]) -> Pipeline:
    """One source, no processor; the records go to the written stream."""
    params, series = context.params, Series.of(context.settings)
    source = source_of(params, series, read_settings(HostSettings))
    return Pipeline(source=PacedSource(source, params.rate) if params.rate else source, schema=candle.SCHEMA)


def main() -> None:
    """Runs the worker to its end."""
    raise SystemExit(run_worker("loader-candles", LoaderParams, build))
