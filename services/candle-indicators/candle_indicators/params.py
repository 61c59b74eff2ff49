"""Which indicators are computed. The bounds keep their state within what a commit carries."""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Period = Annotated[int, Field(ge=2, le=1000)]
Window = Annotated[int, Field(ge=2, le=100)]
Width = Annotated[float, Field(gt=0, le=10)]


class IndicatorParams(BaseModel):
    """The params of candle-indicators; periods are in candles. A null or an empty list leaves an indicator out."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    ema: Annotated[tuple[Period, ...], Field(max_length=10, json_schema_extra={"uniqueItems": True})] = (50, 200)
    """Periods of exponential moving averages: fields ema_<period>."""
    rsi: Period | None = 14
    """Period of the relative strength index: field rsi_<period>."""
    atr: Period | None = 14
    """Period of the average true range: field atr_<period>."""
    vwap: bool = True
    """Volume weighted average price of the UTC day: field vwap."""
    macd: tuple[Period, Period, Period] | None = (12, 26, 9)
    """Fast, slow and signal period (the longer of two is the slow one): fields macd, macd_signal, macd_hist."""
    bollinger: tuple[Window, Width] | None = (20, 2.0)
    """Period, and distance of the bands in standard deviations: fields bb_upper, bb_middle, bb_lower."""

    @model_validator(mode="after")
    def _unique(self) -> Self:
        if len(set(self.ema)) < len(self.ema):
            raise ValueError("ema names a period twice")
        return self
