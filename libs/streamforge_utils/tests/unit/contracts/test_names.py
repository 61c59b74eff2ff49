import re
from datetime import UTC, datetime

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from streamforge_utils.contracts import names
from streamforge_utils.contracts.time_range import TimeRange

KAFKA = re.compile(r"[a-zA-Z0-9._-]{1,249}\Z")
LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?\Z")
DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
ARANGO = re.compile(r"[a-zA-Z][a-zA-Z0-9_-]{0,255}\Z")

SHORT = st.text(names.ALPHABET, min_size=6, max_size=6)
DAYS = st.datetimes(datetime.fromisoformat("1970-01-02"), datetime.fromisoformat("2200-01-01"), timezones=st.just(UTC))
ANY_TEXT = st.text(max_size=80)
WORDS = st.text(names.ALPHABET, min_size=1, max_size=80)
SYMBOLS = st.text(names.ALPHABET, min_size=1, max_size=16)
STEPS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", fullmatch=True)
TYPES = st.sampled_from(["api_candles_1m", "ws_candles_1h", "api_trades", "ws_" + "k" * 32 + "_30m"])


@given(ANY_TEXT, ANY_TEXT, DAYS, SHORT)
def test_a_queue_id_is_a_label_and_starts_a_topic_whatever_symbol_and_type_are(symbol, kind, start, short):
    queue = names.queue_id(symbol, kind, start, short)
    assert LABEL.match(queue)
    assert re.fullmatch(r"[a-z0-9_-]{1,63}", queue)
    assert names.short_of(queue) == short
    assert KAFKA.match(names.dead_letter_topic(queue))
    assert KAFKA.match(names.stream_topic(queue, "x" * 32, prefix="installation-a."))


@given(SYMBOLS, SYMBOLS, TYPES, DAYS, SHORT)
def test_two_symbols_never_share_a_queue_id(one, other, kind, start, short):
    assume(one != other)
    assert names.queue_id(one, kind, start, short) != names.queue_id(other, kind, start, short)


def test_long_symbols_with_the_same_start_do_not_share_a_name():
    # A fixed sample: the 4 characters of the hash that ends a cut name are 16 bits, so a drawn one may meet by chance.
    start = datetime(2024, 8, 1, tzinfo=UTC)
    symbols = [f"{'a' * 130}{number}" for number in range(40)]
    assert len({names.queue_id(symbol, "t", start, "abc123") for symbol in symbols}) == 40
    assert len({names.job("step", symbol, "abc123", 1) for symbol in symbols}) == 40
    assert len({names.collection(symbol, "t", None, start) for symbol in symbols}) == 40


@given(STEPS, ANY_TEXT, SHORT, st.integers(1, 9999), st.integers(0, 9999))
def test_a_job_and_its_pods_are_dns_labels(step, symbol, short, launch, index):
    job = names.job(step, symbol, short, launch)
    assert DNS_LABEL.match(job)
    assert len(job) <= 57
    assert DNS_LABEL.match(f"{job}-{index}")


@given(STEPS, STEPS, WORDS, SHORT, st.integers(1, 99))
def test_two_steps_of_a_workflow_never_share_a_job(one, other, symbol, short, launch):
    assume(one != other)
    assert names.job(one, symbol, short, launch) != names.job(other, symbol, short, launch)


@given(STEPS, WORDS, SHORT, st.integers(1, 99), st.integers(1, 99))
def test_two_launches_never_share_a_job(step, symbol, short, one, other):
    assume(one != other)
    assert names.job(step, symbol, short, one) != names.job(step, symbol, short, other)


@given(ANY_TEXT, ANY_TEXT, DAYS)
def test_a_collection_has_a_traditional_name(symbol, kind, submitted):
    name = names.collection(symbol, kind, None, submitted)
    assert ARANGO.match(name)
    assert names.is_collection(name)


@given(STEPS, SHORT, st.integers(0, 99), st.integers(1, 99), WORDS, DAYS)
def test_names_of_a_launch_are_valid_for_kafka_and_kubernetes(step, short, ordinal, launch, symbol, start):
    queue = names.queue_id(symbol, "api_candles_1m", start, short)
    for name in (names.group(queue, step), names.transactional_id(queue, step, launch, ordinal)):
        assert KAFKA.match(name)
    assert KAFKA.match(names.producer(step, short, ordinal, 2))
    labels = names.labels(queue=queue, step=step, launch=launch, installation="i-" + short, target=step)
    assert all(LABEL.match(value) for value in labels.values())
    assert all(LABEL.match(key.rpartition("/")[2]) for key in labels)


@given(STEPS, SHORT, st.integers(0, 99), st.integers(0, 99))
def test_two_replicas_never_share_a_producer_or_a_transactional_id(step, short, one, other):
    assume(one != other)
    assert names.producer(step, short, one, 100) != names.producer(step, short, other, 100)
    assert names.transactional_id("q", step, 1, one) != names.transactional_id("q", step, 1, other)


def test_the_names_of_the_contract_are_made():
    day = TimeRange.parse("2024-08-01:2024-08-02")
    queue = names.queue_id("BTCUSDT", "api_candles_1m", day.start, "abc123")
    assert queue == "wf-btcusdt-api_candles_1m-20240801-abc123"
    assert names.stream_topic(queue) == f"{queue}-data"
    assert names.collection("BTCUSDT", "api_candles_1m", day, day.end) == "btcusdt_api_candles_1m_2024_08_01"
    assert names.collection("1INCHUSDT", "t", day, day.end) == "c_1inchusdt_t_2024_08_01"
    assert names.job("arango-candles", "BTCUSDT", "abc123", 1) == "job-arango-candles-btcusdt-abc123"
    assert names.job("arango-candles", "BTCUSDT", "abc123", 2) == "job-arango-candles-btcusdt-abc123-2"
    assert names.producer("arango-candles", "abc123", 0, 1) == "arango-candles__abc123"
    assert names.producer("arango-candles", "abc123", 1, 2) == "arango-candles__abc123-1"


def test_short_ids_are_six_of_the_alphabet_and_differ():
    made = [names.short_id() for _ in range(50)]
    assert all(len(short) == 6 and set(short) <= set(names.ALPHABET) for short in made)
    assert len(set(made)) > 45


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a_b", "a" * 33, "a b", "é"])
def test_a_bad_name_of_a_step_or_stream_is_refused(name):
    assert not names.is_step(name)
    assert not names.is_stream(name)


def test_the_dead_letters_name_is_no_stream():
    assert not names.is_stream("dead-letter")
    assert names.is_step("dead-letter")


@pytest.mark.parametrize("name", ["", "1a", "_a", "a.b", "a b", "a" * 129, "a\n"])
def test_a_bad_name_of_a_collection_is_refused(name):
    assert not names.is_collection(name)
