"""The indicators that the params ask for, by the names that candles carry them under."""

from collections.abc import Mapping
from typing import Any, Protocol

from candle_indicators.formulas import Atr, Bollinger, Macd, Rsi, SeededAverage, Vwap, ema
from candle_indicators.params import IndicatorParams
from streamforge_utils.errors import FatalError


class _Remembering(Protocol):
    def state(self) -> Any: ...

    def restore(self, state: Any) -> None: ...


class Indicators:
    """All indicators of one series of candles."""

    def __init__(self, params: IndicatorParams) -> None:
        self._emas: list[tuple[str, SeededAverage]] = [(f"ema_{n}", ema(n)) for n in params.ema]
        self._rsi = Rsi(params.rsi) if params.rsi else None
        self._rsi_name = f"rsi_{params.rsi}"
        self._atr = Atr(params.atr) if params.atr else None
        self._atr_name = f"atr_{params.atr}"
        self._vwap = Vwap() if params.vwap else None
        self._macd = Macd(*params.macd) if params.macd else None
        self._bollinger = Bollinger(*params.bollinger) if params.bollinger else None
        candidates: dict[str, _Remembering | None] = {
            **dict(self._emas),
            self._rsi_name: self._rsi,
            self._atr_name: self._atr,
            "vwap": self._vwap,
            f"macd_{params.macd}": self._macd,
            f"bb_{params.bollinger and params.bollinger[0]}": self._bollinger,
        }
        self._all = {name: indicator for name, indicator in candidates.items() if indicator is not None}

    def update(self, candle: Mapping[str, Any]) -> dict[str, float | None]:
        """The values after this candle, None while undefined."""
        high, low, close = float(candle["high"]), float(candle["low"]), float(candle["close"])
        values: dict[str, float | None] = {}
        for name, average in self._emas:
            values[name] = average.update(close)
        if self._rsi is not None:
            values[self._rsi_name] = self._rsi.update(close)
        if self._atr is not None:
            values[self._atr_name] = self._atr.update(high, low, close)
        if self._vwap is not None:
            values["vwap"] = self._vwap.update((high, low, close), float(candle["volume"]), candle["open_time"])
        if self._macd is not None:
            values["macd"], values["macd_signal"], values["macd_hist"] = self._macd.update(close)
        if self._bollinger is not None:
            values["bb_upper"], values["bb_middle"], values["bb_lower"] = self._bollinger.update(close)
        return values

    def state(self) -> dict[str, Any]:
        """JSON, by indicator."""
        return {name: indicator.state() for name, indicator in self._all.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes what ``state`` gave.

        Raises:
            FatalError: it is the state of other params.
        """
        if state.keys() != self._all.keys():
            raise FatalError(
                f"the committed state is of other params: it has {', '.join(state)}, the params ask for "
                f"{', '.join(self._all)}; start a new workflow"
            )
        for name, indicator in self._all.items():
            indicator.restore(state[name])
