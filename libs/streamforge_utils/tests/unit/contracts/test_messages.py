import math
import string
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamforge_utils.contracts import dead_letters, events
from streamforge_utils.contracts.commands import ALL_QUEUES, Command, Drain
from streamforge_utils.contracts.dead_letters import DeadLetter
from streamforge_utils.contracts.events import Counters, Decision, DecisionName, Event, EventName
from streamforge_utils.contracts.reasons import REASONS, help_of
from streamforge_utils.contracts.time_range import TimeRange
from streamforge_utils.contracts.workflow_type import INTERVALS_MS, WorkflowType
from streamforge_utils.errors import PermanentError

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
WORD = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=20)
TIMES = st.floats(0, 4e9, allow_nan=False)
COUNTS = st.integers(0, 2**53 - 1)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
PAYLOADS = st.dictionaries(TEXT, JSON, max_size=4)

COMMANDS = st.builds(
    Command,
    command=st.sampled_from(["ping", "stop", "drain", "simulate-loading", "fail-after"]),
    queue_id=st.just(ALL_QUEUES) | TEXT.filter(bool),
    target=st.none() | WORD,
    step=st.none() | WORD,
    installation=st.none() | WORD,
    command_id=WORD,
    sent_at=TIMES,
    payload=PAYLOADS,
)
EVENTS = st.builds(
    Event,
    queue_id=TEXT,
    producer=TEXT,
    target=WORD,
    step=WORD,
    launch=st.integers(1, 99),
    ordinal=st.integers(0, 99),
    run=WORD,
    seq=COUNTS,
    symbol=TEXT,
    type=TEXT,
    event=st.sampled_from(EventName),
    message=TEXT,
    records_written=COUNTS,
    installation=st.none() | WORD,
    timestamp=TIMES,
    ping_ts=st.none() | TIMES,
    ponged_at=st.none() | TIMES,
    payload=PAYLOADS.filter(lambda payload: "counters" not in payload),
)
DECISIONS = st.builds(
    Decision,
    queue_id=TEXT,
    decision=st.sampled_from(DecisionName),
    decision_id=WORD,
    installation=st.none() | WORD,
    message=TEXT,
    timestamp=TIMES,
    payload=PAYLOADS,
)
DEAD_LETTERS = st.builds(
    DeadLetter,
    step=WORD,
    code=WORD,
    reason=TEXT,
    topic=WORD,
    partition=st.integers(0, 2**31 - 1),
    offset=st.integers(-1, 2**63 - 1),
    key=st.none() | st.binary(max_size=20),
    value=st.none() | st.binary(max_size=40),
    position=st.none() | TEXT,
    original_headers=st.lists(
        st.tuples(st.sampled_from(["schema", "step-of-writer", "traceparent"]), st.binary(max_size=10)), max_size=3
    ).map(tuple),
)
NAIVE_START, NAIVE_END = datetime.fromisoformat("1970-01-01"), datetime.fromisoformat("2200-01-01")
MOMENTS = st.datetimes(NAIVE_START, NAIVE_END, timezones=st.just(UTC))


@given(COMMANDS)
def test_a_command_comes_back_as_it_was_sent(command):
    assert Command.from_json(command.to_json()) == command


@given(EVENTS)
def test_an_event_comes_back_as_it_was_sent(event):
    assert events.from_json(event.to_json()) == event


@given(DECISIONS)
def test_a_decision_comes_back_as_it_was_sent(decision):
    assert events.from_json(decision.to_json()) == decision


@given(DEAD_LETTERS)
def test_a_dead_letter_comes_back_as_it_was_sent(letter):
    assert DeadLetter.read(letter.key, letter.value, letter.headers()) == letter


@given(st.integers(1, 99), st.integers(1, 99), st.dictionaries(WORD, st.dictionaries(st.integers(0, 99), COUNTS)))
def test_a_drain_comes_back_out_of_its_command(drain_id, launch, ends):
    drain = Drain(drain_id=drain_id, launch=launch, ends=ends)
    command = Command(command="drain", queue_id="wf", payload=drain.model_dump(mode="json"))
    assert Drain.model_validate(Command.from_json(command.to_json()).payload) == drain


@given(MOMENTS, st.timedeltas(timedelta(microseconds=1), timedelta(days=4000)))
def test_a_time_range_comes_back_out_of_its_text(start, length):
    given_range = TimeRange(start, start + length)
    assert TimeRange.parse(str(given_range)) == given_range


@given(st.dates(NAIVE_START.date(), NAIVE_END.date()), st.integers(1, 4000))
def test_a_range_of_days_is_exactly_its_days(first, days):
    found = TimeRange.parse(f"{first}:{first + timedelta(days=days)}")
    assert found.end_ms - found.start_ms == days * 86_400_000


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "/",
        "2024-08-01",
        "2024-08-02:2024-08-01",
        "2024-08-01:2024-08-01",
        "2024-02-30:2024-03-01",
        "2024-8-1:2024-8-2",
        "2024-08-01T00:00/2024-08-01T06:00",
        "2024-08-01T00:00Z/2024-08-01T06:00",
        "2024-08-01T06:00Z/2024-08-01T00:00Z",
        "yesterday/today",
        "2024-08-01:2024-08-02\n",
    ],
)
def test_a_bad_time_range_is_refused(text):
    with pytest.raises(ValueError):  # noqa: PT011 - the message is free text for people
        TimeRange.parse(text)


@given(st.sampled_from(["api", "ws"]), st.from_regex(r"[a-z][a-z0-9]{0,31}", fullmatch=True))
def test_a_workflow_type_comes_back_out_of_its_text(source, kind):
    for interval in (None, *INTERVALS_MS):
        found = WorkflowType(source, kind, interval)
        assert WorkflowType.parse(str(found)) == found
        assert found.interval_ms == (None if interval is None else INTERVALS_MS[interval])
        assert found.is_live is (source == "ws")


@pytest.mark.parametrize(
    "text", ["", "candles_1m", "api", "api_", "api_candles_7m", "ftp_candles_1m", "API_candles_1m"]
)
def test_a_bad_workflow_type_is_refused(text):
    with pytest.raises(ValueError):  # noqa: PT011 - the message is free text for people
        WorkflowType.parse(text)


@given(EVENTS)
def test_status_and_finished_follow_from_the_event(event):
    assert event.finished is (event.event is EventName.FINISHED)
    assert event.status == events.STATUS[event.event]


def test_unknown_fields_are_ignored():
    command = Command.from_json(b'{"command": "ping", "queue_id": "wf", "priority": 9}')
    assert command.command == "ping"
    assert not hasattr(command, "priority")


def test_an_events_counters_are_read():
    event = Event(queue_id="q", producer="p", target="t", step="s", run="r", seq=0, event=EventName.FINISHED)
    assert event.counters is None
    totals = Counters(read=3, stored=1, dead_lettered=1, dropped={"late": 1})
    assert event.model_copy(update={"payload": {"counters": totals.model_dump()}}).counters == totals


@pytest.mark.parametrize(
    ("header", "value"), [(dead_letters.PARTITION, b"x"), (dead_letters.OFFSET, b""), (dead_letters.STEP, None)]
)
def test_headers_that_are_no_dead_letters_are_refused(header, value):
    letter = DeadLetter("s", "c", "r", "t", 0, 0, None, None)
    headers = [(n, value if n == header else v) for n, v in letter.headers() if n != header or value is not None]
    with pytest.raises(ValueError, match=header if value is None else "invalid literal"):
        DeadLetter.read(None, None, headers)


BAD_MESSAGES = [
    None,
    b"",
    b"null",
    b"[]",
    b"{}",
    b"0",
    b'"ping"',
    b"{",
    b"\x00\x01\x02",
    b"\xff\xfe",
    b'{"command": "ping"}',
    b'{"command": "ping", "queue_id": ""}',
    b'{"command": "explode", "queue_id": "wf"}',
    b'{"command": null, "queue_id": "wf"}',
    b'{"command": "ping", "queue_id": 7}',
    b'{"command": "ping", "queue_id": "wf", "payload": []}',
    b'{"command": "ping", "queue_id": "wf", "sent_at": "soon"}',
    b'{"command": "ping", "queue_id": "wf", "target": {}}',
    b'{"command": "stop", "queue_id": "wf", "payload": "now"}',
    b'{"event": "started"}',
    b'{"decision": "launched"}',
    b'{"decision": "guessed", "queue_id": "wf"}',
]


def assert_is_refused(read, value):
    with pytest.raises(PermanentError) as caught:
        read(value)
    assert caught.value.code == "wrong-schema"
    assert len(caught.value.message) < 400


@pytest.mark.parametrize("value", BAD_MESSAGES)
def test_a_bad_message_is_no_command_and_the_error_stays_short(value):
    assert_is_refused(Command.from_json, value)


@pytest.mark.parametrize("value", BAD_MESSAGES)
def test_a_bad_message_is_neither_an_event_nor_a_decision_and_the_error_stays_short(value):
    assert_is_refused(events.from_json, value)


@pytest.mark.parametrize(
    "field",
    [
        {"seq": -1},
        {"seq": "x"},
        {"launch": 0},
        {"event": "exploded"},
        {"payload": 3},
        {"timestamp": "soon"},
        {"run": None},
        {"records_written": 1.5},
    ],
)
def test_an_event_with_one_bad_field_is_refused(field):
    good = Event(queue_id="q", producer="p", target="t", step="s", run="r", seq=0, event=EventName.STARTED)
    bad = {**good.model_dump(mode="json"), **field}
    with pytest.raises(PermanentError, match=next(iter(field))):
        events.from_json(str(bad).replace("'", '"').replace("None", "null").replace("False", "false").encode())


@pytest.mark.parametrize(
    ("fields", "is_mine"),
    [
        ({}, True),
        ({"queue_id": "wf-b"}, False),
        ({"target": "t"}, True),
        ({"target": "u"}, False),
        ({"step": "s"}, True),
        ({"step": "r"}, False),
        ({"queue_id": ALL_QUEUES}, True),
        ({"queue_id": ALL_QUEUES, "installation": "mine"}, True),
        ({"queue_id": ALL_QUEUES, "installation": "other"}, False),
        ({"queue_id": ALL_QUEUES, "target": "u"}, False),
    ],
)
def test_a_command_is_for_whom_it_names(fields, is_mine):
    command = Command(command="stop", **({"queue_id": "wf-a"} | fields))
    assert command.is_for(queue_id="wf-a", target="t", step="s", installation="mine") is is_mine


def test_each_reason_has_a_page_and_an_unknown_one_has_none():
    assert all(help_of(code).endswith(f"/{code}.md") for code in REASONS)
    with pytest.raises(KeyError):
        help_of("no-such-reason")


def test_times_survive_json_to_the_last_bit():
    sent = 1754202651.9971234
    assert Command.from_json(Command(command="ping", queue_id="q", sent_at=sent).to_json()).sent_at == sent
    assert not math.isnan(sent)
