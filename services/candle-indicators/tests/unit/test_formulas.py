"""Each formula against the same formula in exact fractions, warm-up included."""

import itertools
import random
from fractions import Fraction

import pytest

from candle_indicators.formulas import DAY_MS, Atr, Bollinger, Macd, Rsi, SeededAverage, Vwap, ema, wilder

Exact = list[Fraction | None]


def prices(count: int) -> list[float]:
    generator = random.Random(7)
    return [round(100 + generator.uniform(-5, 5), 2) for _ in range(count)]


def exact_average(values: list[Fraction], n: int, weight: Fraction) -> Exact:
    if len(values) < n:
        return [None] * len(values)
    average = sum(values[:n], Fraction()) / n
    result: Exact = [None] * (n - 1) + [average]
    for value in values[n:]:
        average = average * (1 - weight) + value * weight
        result.append(average)
    return result


def exact_ema(values: list[Fraction], n: int) -> Exact:
    return exact_average(values, n, Fraction(2, n + 1))


def assert_equal(got: list[float | None], exact: Exact) -> None:
    assert [value is None for value in got] == [value is None for value in exact]
    assert [value for value in got if value is not None] == pytest.approx(
        [float(value) for value in exact if value is not None], rel=1e-12, abs=1e-12
    )


@pytest.mark.parametrize("n", [2, 3, 50])
def test_an_ema_begins_with_the_mean_of_its_first_n(n):
    closes = prices(200)
    average = ema(n)
    assert_equal([average.update(close) for close in closes], exact_ema([Fraction(c) for c in closes], n))


def test_wilders_average_gives_a_new_value_the_weight_of_one_nth():
    closes = prices(200)
    average = wilder(14)
    exact = exact_average([Fraction(c) for c in closes], 14, Fraction(1, 14))
    assert_equal([average.update(close) for close in closes], exact)


def test_an_average_of_a_constant_is_that_constant_to_the_bit():
    average = SeededAverage(4, 0.3)
    assert [average.update(0.5) for _ in range(50)][3:] == [0.5] * 47


def test_rsi_is_first_defined_at_index_n():
    closes = prices(100)
    changes = [Fraction(b) - Fraction(a) for a, b in itertools.pairwise(closes)]
    gains = exact_average([max(c, Fraction()) for c in changes], 14, Fraction(1, 14))
    losses = exact_average([max(-c, Fraction()) for c in changes], 14, Fraction(1, 14))
    exact: Exact = [None]
    for gain, loss in zip(gains, losses, strict=True):
        exact.append(None if gain is None or loss is None else 100 * gain / (gain + loss))
    rsi = Rsi(14)
    got = [rsi.update(close) for close in closes]
    assert_equal(got, exact)
    assert got.index(next(value for value in got if value is not None)) == 14


def test_rsi_of_prices_that_never_move_is_zero_as_in_ta_lib():
    rsi = Rsi(3)
    assert [rsi.update(5.0) for _ in range(5)] == [None, None, None, 0.0, 0.0]


def test_atr_takes_the_gap_to_the_previous_close_and_leaves_out_the_first_bar():
    bars = [(10.0, 8.0, 9.0), (20.0, 19.0, 19.5), (19.0, 5.0, 6.0), (8.0, 7.0, 7.5)]
    atr = Atr(2)
    # true ranges: 20 - 9 = 11, 19.5 - 5 = 14.5, 8 - 6 = 2
    assert [atr.update(*bar) for bar in bars] == [None, None, 12.75, (12.75 + 2) / 2]


def test_macd_starts_where_both_seeds_end_and_its_signal_later():
    closes = prices(120)
    exact_closes = [Fraction(close) for close in closes]
    fast, slow, signal = 12, 26, 9
    slow_values = exact_ema(exact_closes, slow)
    fast_values: Exact = [None] * (slow - fast)
    fast_values += exact_ema(exact_closes[slow - fast :], fast)
    lines: Exact = [None if f is None or s is None else f - s for f, s in zip(fast_values, slow_values, strict=True)]
    signals: Exact = [None] * (slow - 1)
    signals += exact_ema([line for line in lines if line is not None], signal)
    macd = Macd(fast, slow, signal)
    got = [macd.update(close) for close in closes]
    assert_equal([row[0] for row in got], lines)
    assert_equal([row[1] for row in got], signals)
    first_line = next(i for i, row in enumerate(got) if row[0] is not None)
    first_signal = next(i for i, row in enumerate(got) if row[1] is not None)
    assert (first_line, first_signal) == (25, 33)
    assert got[40][2] == got[40][0] - got[40][1]  # type: ignore[operator]


def test_macd_takes_the_longer_period_as_the_slow_one():
    macd, swapped = Macd(3, 5, 2), Macd(5, 3, 2)
    for close in prices(20):
        assert macd.update(close) == swapped.update(close)


def test_bollinger_bands_lie_population_deviations_around_the_mean():
    bollinger = Bollinger(4, 2.0)
    got = [bollinger.update(value) for value in (2.0, 4.0, 4.0, 6.0, 8.0)]
    assert got[2] == (None, None, None)
    # of 2 4 4 6: mean 4, variance (4 + 0 + 0 + 4) / 4 = 2
    assert got[3] == pytest.approx((4 + 2 * 2**0.5, 4, 4 - 2 * 2**0.5), rel=1e-15)
    assert got[4][1] == 5.5


def test_vwap_begins_anew_at_midnight_utc_and_is_undefined_without_volume():
    vwap = Vwap()
    got = [
        vwap.update((3.0, 1.0, 2.0), 0.0, DAY_MS - 3),
        vwap.update((3.0, 1.0, 2.0), 10.0, DAY_MS - 2),
        vwap.update((6.0, 4.0, 5.0), 30.0, DAY_MS - 1),
        vwap.update((9.0, 9.0, 9.0), 1.0, DAY_MS),
    ]
    assert got == [None, 2.0, (20.0 + 150.0) / 40.0, 9.0]
