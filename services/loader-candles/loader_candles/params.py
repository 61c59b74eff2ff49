"""The params of a step with this target, as a request gives them. Checks what can be known without any I/O."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

SIMULATED = "simulated"
ARCHIVE = "binance-archive"
REST = "binance-rest"
LIVE = "binance-ws"
FILE = "file://"

DEFAULT_BASE_URLS = {
    ARCHIVE: "https://data.binance.vision",
    REST: "https://api.binance.com",
    LIVE: "https://api.binance.com",
}
"""Source -> where it is found unless ``base_url`` says otherwise."""
DEFAULT_WS_URL = "wss://stream.binance.com:9443"

_SOURCE = rf"^({SIMULATED}|{ARCHIVE}|{REST}|{LIVE}|file:///[^\x00-\x1f]+)$"
_HTTP = r"^https?://[^\s/@?#]+(/[^\s@?#]*)?$"
_WS = r"^wss?://[^\s/@?#]+(/[^\s@?#]*)?$"
_NO_PATH = r"/\.\.(/|$)|[\x00-\x1f]"
_NO_URL = r"\s"  # also at the end, where some dialects' $ lets a line break pass


def _without(pattern: str) -> dict[str, Any]:
    """JSON Schema: no text in which the pattern is found (null passes)."""
    return {"not": {"type": "string", "pattern": pattern}}


def _only_for(name: str, sources: str) -> dict[str, Any]:
    """JSON Schema: the param ``name`` may be set only with a source that matches the pattern ``sources``."""
    return {
        "if": {"properties": {name: {"not": {"type": "null"}}}, "required": [name]},
        "then": {"properties": {"source": {"pattern": sources}}},
    }


class LoaderParams(BaseModel):
    """Which candles are loaded is the workflow's symbol, type and time range; these say from where and how."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,
        json_schema_extra={"allOf": [_only_for("base_url", "^binance-"), _only_for("ws_url", f"^{LIVE}$")]},
    )

    source: str = Field(pattern=_SOURCE, max_length=1024, json_schema_extra=_without(_NO_PATH))
    """simulated, binance-archive, binance-rest, binance-ws, or file:///path (a glob is read in the order of names)."""
    base_url: str | None = Field(default=None, pattern=_HTTP, max_length=512, json_schema_extra=_without(_NO_URL))
    """Address of the exchange's archive or REST interface; by default the public one."""
    ws_url: str | None = Field(default=None, pattern=_WS, max_length=512, json_schema_extra=_without(_NO_URL))
    """Address of the exchange's streams (binance-ws); by default the public one."""
    rate: float | None = Field(default=None, ge=0.01, le=1_000_000)
    """At most so many records per second; unset: as fast as it goes."""
    seed: int = Field(default=0, ge=0, le=2**53)
    """Of simulated candles: the same seed gives the same candles."""
    weight_limit: int = Field(default=6000, ge=10, le=1_000_000)
    """Request weight that the exchange allows an address per minute."""
    weight_share: float = Field(default=0.5, gt=0, le=1)
    """Share of ``weight_limit`` that may be used before the loader waits for the next minute."""
    timeout_s: float = Field(default=10.0, ge=0.1, le=300)
    """Seconds without an answer after which the exchange counts as away."""

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if "/../" in f"{self.source}/":
            raise ValueError("source must not go up by '..'")
        if self.base_url is not None and self.source not in DEFAULT_BASE_URLS:
            raise ValueError("base_url is only for the sources binance-archive, binance-rest and binance-ws")
        if self.ws_url is not None and self.source != LIVE:
            raise ValueError("ws_url is only for the source binance-ws")
        return self

    @property
    def address(self) -> str:
        """Where the exchange's archive or REST interface is, without a slash at the end."""
        return (self.base_url or DEFAULT_BASE_URLS[self.source]).rstrip("/")

    @property
    def stream_address(self) -> str:
        """Where the exchange's streams are, without a slash at the end."""
        return (self.ws_url or DEFAULT_WS_URL).rstrip("/")
