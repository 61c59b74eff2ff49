"""Puts the loader together: params and workflow -> source -> the stream ``data``."""

from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict

from loader_candles import params as sources
from loader_candles.archive import Archive
from loader_candles.exchange import Exchange
from loader_candles.files_source import FilesSource
from loader_candles.live_source import LiveSource
from loader_candles.local_files import LocalFiles
from loader_candles.pacing import PacedSource
from loader_candles.params import LoaderParams
from loader_candles.rest_source import RestSource
from loader_candles.series import Series
from loader_candles.simulated_source import SimulatedSource
from loader_candles.web_client import WebClient
from streamforge_utils.contracts import candle
from streamforge_utils.errors import ConfigurationError
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


def source_of(context: WorkerContext[LoaderParams], host: HostSettings) -> Source:
    """The source that the params name, for the candles that the workflow wants.

    Raises:
        ConfigurationError: workflow and source do not fit each other.
    """
    params, series = context.params, Series.of(context.settings)
    if params.source.startswith(sources.FILE):
        return FilesSource("file", LocalFiles(params.source, host.roots, series), series)
    if series.is_live != (params.source == sources.LIVE) and params.source != sources.SIMULATED:
        kind = "live (ws_...)" if params.source == sources.LIVE else "bounded (api_...)"
        raise ConfigurationError(f"the source {params.source} is for {kind} types, not for {context.settings.type}")
    if not series.is_live and not series.is_bounded:
        raise ConfigurationError(f"the source {params.source} needs a time range")
    if params.source == sources.SIMULATED:
        return SimulatedSource(series, seed=params.seed, is_real_time=params.rate is None)
    client = WebClient(params.address, timeout_s=params.timeout_s)
    if params.source == sources.ARCHIVE:
        return FilesSource(params.source, Archive(client, series), series)
    exchange = Exchange(client, series, budget=params.weight_limit * params.weight_share)
    if params.source == sources.REST:
        return RestSource(exchange, series)
    url, timeout_s = params.stream_address, params.timeout_s
    return LiveSource(exchange, url, series, timeout_s=timeout_s, report=context.report)


def build(context: WorkerContext[LoaderParams]) -> Pipeline:
    """One source, no processor; the records go to the written stream."""
    source, rate = source_of(context, read_settings(HostSettings)), context.params.rate
    return Pipeline(source=PacedSource(source, rate) if rate else source, schema=candle.SCHEMA)


def main() -> None:
    """Runs the worker to its end."""
    raise SystemExit(run_worker("loader-candles", LoaderParams, build))
