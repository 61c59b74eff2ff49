"""Events folded into a workflow."""

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from queue_manager.fold import STALL_S, Sent, fold, is_urgent, mark_stalled, reason_of, stalls_at
from queue_manager.model import WorkflowDocument
from streamforge_utils.contracts.events import EventName

NAMES = ["started", "loading", "heartbeat", "pong", "error", "interrupted", "finished"]


def test_an_offset_counts_once(tell):
    story = tell()
    story.launch("loader")
    sent = story.event("loader", "loading", counters={"read": 3})
    once = fold(story.document, [sent])
    later = story.event("loader", "loading", counters={"read": 5})
    assert fold(fold(once, [later]), [sent]).step("loader").ordinals[0].counters.read == 5
    assert once.status.offsets == {0: sent.offset + 1}


def test_the_same_run_and_seq_at_another_offset_counts_once(tell):
    story = tell()
    story.launch("loader")
    first = story.event("loader", "started")
    second = story.event("loader", "interrupted")
    double = Sent(0, 99, first.event)
    assert fold(story.document, [first, second, double]).step("loader").ordinals[0].last_event == "interrupted"


def test_events_of_an_older_launch_are_history_only(tell):
    story = tell()
    story.launch("loader")
    story.say("loader", "started", counters={"read": 3})
    from queue_manager import decisions

    story.document = decisions.launch_again(story.document, "loader", "vanished", now=1.0)
    late = story.event("loader", "finished", counters={"read": 9})
    story.document = fold(story.document, [late])
    assert story.document.step("loader").ordinals[0].counters.read == 3
    story.launch("loader")
    story.document = fold(story.document, [story.event("loader", "finished", launch=1)])
    assert not story.document.step("loader").ordinals[0].is_finished
    story.say("loader", "started", run="r2")
    assert story.document.step("loader").ordinals[0].counters.read == 3
    assert story.document.step("loader").ordinals[0].launch == 2


def test_finished_is_final_whoever_said_it(tell):
    story = tell()
    story.launch("loader")
    for event, run in (("started", "a"), ("finished", "a"), ("started", "b"), ("interrupted", "b")):
        story.say("loader", event, run=run)
    ordinal = story.document.step("loader").ordinals[0]
    assert ordinal.is_finished
    assert ordinal.last_event == "interrupted"


def test_counters_of_all_ordinals_are_kept_apart(tell, make_step):
    story = tell(make_step("loader", writes=("data",), replicas=2))
    story.launch("loader")
    for ordinal in (0, 1):
        story.say("loader", "loading", ordinal=ordinal, run=f"r{ordinal}", counters={"read": 3 + ordinal})
    story.say("loader", "loading", ordinal=7, counters={"read": 100})
    assert {n: o.counters.read for n, o in story.document.step("loader").ordinals.items()} == {0: 3, 1: 4}


def test_a_restart_without_counters_leaves_what_was_counted(tell):
    story = tell()
    story.launch("loader")
    story.say("loader", "loading", counters={"read": 3, "stored": 3})
    story.say("loader", "started", run="r2")
    assert story.document.step("loader").ordinals[0].counters.read == 3


def test_events_of_unknown_steps_and_unlaunched_ones_only_move_the_offset(tell):
    story = tell()
    sent = story.event("loader", "started")
    assert fold(story.document, [sent]).step("loader").ordinals == {}
    stranger = sent.event.model_copy(update={"step": "stranger"})
    assert fold(story.document, [Sent(0, 9, stranger)]).status.offsets == {0: 10}


def test_a_stall_is_lag_without_progress(tell):
    story = tell()
    story.launch("loader")
    story.say("loader", "started", lag=5)
    assert mark_stalled(story.document, story.now + STALL_S) is None
    stalled = mark_stalled(story.document, story.now + STALL_S + 1)
    assert stalled.step("loader").is_stalled
    story.document = stalled
    story.now += 100
    story.say("loader", "loading", counters={"read": 1}, lag=4)
    assert not mark_stalled(story.document, story.now).step("loader").is_stalled
    story.say("loader", "loading", counters={"read": 2}, lag=0)
    assert not mark_stalled(story.document, story.now + 1000).step("loader").is_stalled


def test_when_a_stall_comes_by_time_alone_is_known_beforehand(tell):
    story = tell()
    story.launch("loader")
    assert stalls_at(story.document) == math.inf
    story.say("loader", "started", lag=5)
    assert stalls_at(story.document) == story.now + STALL_S
    story.document = mark_stalled(story.document, story.now + STALL_S + 1)
    assert stalls_at(story.document) == math.inf
    story.document.step("loader").state = "finished"
    assert stalls_at(story.document) == -math.inf
    story.document = mark_stalled(story.document, story.now)
    assert stalls_at(story.document) == math.inf


def test_a_step_without_lag_is_stalled_no_more(tell):
    story = tell()
    story.launch("loader")
    story.say("loader", "started", lag=0)
    story.document.step("loader").is_stalled = True
    assert stalls_at(story.document) == -math.inf
    assert stalls_at(mark_stalled(story.document, story.now)) == math.inf


def test_an_unknown_reason_becomes_error(tell):
    story = tell()
    story.launch("loader")
    known = story.event("loader", "error", reason={"code": "bad-input", "message": "line 7"})
    assert reason_of(known.event).model_dump() == {"code": "bad-input", "message": "line 7"}
    assert reason_of(story.event("loader", "error", reason={"code": "x", "message": "y"}).event).code == "error"
    assert reason_of(story.event("loader", "error", code="fatal").event).code == "fatal"
    assert reason_of(story.event("loader", "error", reason="?").event).message == "error"


def test_only_progress_and_pongs_can_wait():
    story = {name: is_urgent_name(name) for name in NAMES}
    assert [name for name, urgent in story.items() if not urgent] == ["loading", "heartbeat", "pong"]


def is_urgent_name(name):
    from streamforge_utils.contracts.events import Event

    return is_urgent(Event(queue_id="q", producer="p", target="t", step="s", run="r", seq=0, event=name))


@st.composite
def histories(draw):
    """Events of two steps, two ordinals, two launches and several runs, in the order of their offsets."""
    seqs = {}
    made = []
    for _ in range(draw(st.integers(1, 25))):
        key = (draw(st.sampled_from(["loader", "sink"])), draw(st.integers(0, 1)), draw(st.sampled_from("ab")))
        seqs[key] = seqs.get(key, -1) + 1
        made.append((key, draw(st.integers(1, 2)), draw(st.sampled_from(NAMES)), seqs[key], draw(st.integers(0, 9))))
    return made


def events_of(story, history):
    return [
        story.event(step, name, ordinal=ordinal, run=run, seq=seq, launch=launch, counters={"read": count}, lag=count)
        for (step, ordinal, run), launch, name, seq, count in history
    ]


def launched(tell, make_step):
    story = tell(make_step("loader", writes=("data",), replicas=2), make_step("sink", reads=("data",), replicas=2))
    story.launch("loader")
    story.launch("sink")
    return story


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=histories(), data=st.data())
def test_a_fold_does_not_depend_on_how_events_are_delivered(tell_once, history, data):
    """In pieces, again from any point on, doubled: the same document."""
    story = tell_once()
    events = events_of(story, history)
    whole = fold(story.document, events)
    document, position = story.document, 0
    while position < len(events):
        upto = data.draw(st.integers(position + 1, len(events)))
        again_from = data.draw(st.integers(0, position))
        document = fold(document, events[again_from:upto])
        position = upto
    assert document == whole
    assert fold(whole, events) == whole


@pytest.fixture
def tell_once(tell, make_step):
    return lambda: launched(tell, make_step)


def test_the_names_are_all_names():
    assert set(NAMES) == {str(name) for name in EventName}


def test_figures_that_are_none_do_not_poison_the_workflow(tell):
    story = tell()
    story.launch("loader")
    story.say("loader", "started", metrics_port="x", host=7, counters={"read": "many"}, lag="long")
    story.say("loader", "loading", counters=[1], partial={})
    story.say("loader", "error", reason=[], code=5)
    assert WorkflowDocument.from_store(story.document.to_store()) == story.document
