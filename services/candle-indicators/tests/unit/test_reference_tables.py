"""The formulas against tables that others computed, where those define a value and their seeding has died away.

A seeding other than ours dies away as ``(1 - weight) ** rows``; it counts from where that is below 1e-12. Tables that
are too short for that are entered at a row of theirs: from its values on ours must give the rest. Tables that are
printed with few decimals are compared to what they print.
"""

import csv
import gzip
import math
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import xlrd

from candle_indicators.formulas import Atr, Bollinger, Rsi, Vwap, ema, wilder

DECAYED = 1e-12
RELATIVE = 1e-9


def rows_until_decayed(weight: float) -> int:
    return math.ceil(math.log(DECAYED) / math.log(1 - weight))


def ta4j(shared_data: Path, name: str) -> tuple[int, list[list[Any]]]:
    sheet = xlrd.open_workbook(str(shared_data / "indicators" / "ta4j" / f"{name}.xls")).sheet_by_index(0)
    rows = [sheet.row_values(number) for number in range(sheet.nrows)]
    length = next(int(row[1]) for row in rows if row[0] == "length")
    start = next(number for number, row in enumerate(rows) if row[0] == "Date") + 1
    return length, rows[start:]


def stockcharts(shared_data: Path, name: str) -> list[dict[str, str]]:
    with (shared_data / "indicators" / "bukosabino-ta" / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


def assert_same_from(start: int, got: list[float | None], expected: list[float]) -> None:
    assert len(got) == len(expected) > start, f"the table has only {len(expected)} rows, nothing is compared"
    assert got[start:] == pytest.approx(expected[start:], rel=RELATIVE)


def test_ema_equals_ta4j(shared_data):
    n, rows = ta4j(shared_data, "EMA")
    average = ema(n)
    got = [average.update(row[4]) for row in rows]
    assert_same_from(n - 1 + rows_until_decayed(2 / (n + 1)), got, [row[-1] for row in rows])


def test_wilders_average_equals_ta4j(shared_data):
    n, rows = ta4j(shared_data, "MMA")
    average = wilder(n)
    got = [average.update(row[4]) for row in rows]
    assert_same_from(n - 1 + rows_until_decayed(1 / n), got, [row[-1] for row in rows])


def test_atr_equals_ta4j(shared_data):
    n, rows = ta4j(shared_data, "ATR")
    atr = Atr(n)
    got = [atr.update(row[2], row[3], row[4]) for row in rows]
    assert_same_from(n + rows_until_decayed(1 / n), got, [row[-1] for row in rows])


def test_rsi_equals_ta4j(shared_data):
    n, rows = ta4j(shared_data, "RSI")
    bars = [row for row in rows if isinstance(row[4], float) and isinstance(row[-1], float)]
    rsi = Rsi(n)
    got = [rsi.update(row[4]) for row in bars]
    assert_same_from(n + rows_until_decayed(1 / n), got, [row[-1] for row in bars])


def test_atr_goes_on_from_a_row_of_stockcharts(shared_data):
    rows = stockcharts(shared_data, "cs-atr")
    start = 13  # the first row with a value
    atr = Atr(14)
    atr.restore([float(rows[start]["Close"]), [14, float(rows[start]["ATR"])]])
    got = [atr.update(float(row["High"]), float(row["Low"]), float(row["Close"])) for row in rows[start + 1 :]]
    assert got == pytest.approx([float(row["ATR"]) for row in rows[start + 1 :]], rel=RELATIVE)


@pytest.mark.parametrize(("column", "n"), [("short_ema", 12), ("long_ema", 26)])
def test_the_emas_of_macd_go_on_from_a_row_of_stockcharts(shared_data, column, n):
    rows = stockcharts(shared_data, "cs-macd")
    average = ema(n)
    average.restore([n, float(rows[30][column])])
    got = [average.update(float(row["Close"])) for row in rows[31:]]
    assert got == pytest.approx([float(row[column]) for row in rows[31:]], rel=RELATIVE)


def test_the_macd_signal_goes_on_from_a_row_of_stockcharts(shared_data):
    rows = stockcharts(shared_data, "cs-macd")
    signal = ema(9)
    signal.restore([9, float(rows[40]["MACD_signal"])])
    got = [signal.update(float(row["MACD_line"])) for row in rows[41:]]
    # near its zeros the line is printed with fewer significant digits than 1e-9 of it
    assert got == pytest.approx([float(row["MACD_signal"]) for row in rows[41:]], rel=RELATIVE, abs=1e-9)


def test_rsi_goes_on_from_a_row_of_stockcharts(shared_data):
    rows = stockcharts(shared_data, "cs-rsi")
    start = next(number for number, row in enumerate(rows) if row["RSI"])
    rsi = Rsi(14)
    first = rows[start]
    rsi.restore([float(first["Close"]), [14, float(first["Avg Gain"])], [14, float(first["Avg Loss"])]])
    got = [rsi.update(float(row["Close"])) for row in rows[start + 1 :]]
    printed = 100 * 1e-6 / 0.06  # averages are printed with 6 decimals, the smaller one is about 0.06
    assert got == pytest.approx([float(row["RSI"]) for row in rows[start + 1 :]], abs=printed)


def test_bollinger_bands_equal_stockcharts(shared_data):
    rows = stockcharts(shared_data, "cs-bbands")
    bollinger = Bollinger(20, 2.0)
    got = [bollinger.update(float(row["Close"])) for row in rows]
    assert [upper is not None for upper, _, _ in got] == [bool(row["HighBand"]) for row in rows]
    compared = [
        (values, [float(row[name]) for name in ("HighBand", "MiddleBand", "LowBand")])
        for values, row in zip(got, rows, strict=True)
        if row["HighBand"]
    ]
    assert len(compared) == len(rows) - 19
    for values, expected in compared:
        assert values == pytest.approx(expected, abs=2e-6)  # printed with 6 decimals


def test_vwap_equals_the_exact_quotient_on_every_minute_of_ten_real_days(shared_data):
    vwap = Vwap()
    day, turnover, volume = "", Fraction(), Fraction()
    with gzip.open(shared_data / "candles" / "BTCUSDT-1m-2025-08-01_10.csv.gz", "rt") as file:
        rows = list(csv.reader(file))
    assert len(rows) == 14_400
    for row in rows:
        bar = (float(row[2]), float(row[3]), float(row[4]))
        today = datetime.fromtimestamp(int(row[0]) / 1000, UTC).date().isoformat()
        if today != day:
            day, turnover, volume = today, Fraction(), Fraction()
        turnover += sum((Fraction(price) for price in row[2:5]), Fraction()) / 3 * Fraction(row[5])
        volume += Fraction(row[5])
        assert vwap.update(bar, float(row[5]), int(row[0])) == pytest.approx(float(turnover / volume), rel=1e-12)
