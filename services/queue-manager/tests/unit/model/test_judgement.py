"""How a launch ended, as a table of what was said and seen."""

from dataclasses import replace

import pytest

from queue_manager.controller.judgement import Evidence, judge
from queue_manager.launcher.interface import OrdinalStatus
from queue_manager.model import Reason, Stopping

STOPPING = Stopping(at=1.0, reason=Reason(code="stopped", message="stopped by a request"))
DRAINING = STOPPING.model_copy(update={"drain": True})


def ended(number=0, code=1, *, phase="failed", restarts=3, reason=None):
    return OrdinalStatus(ordinal=number, phase=phase, restarts=restarts, last_exit=code, reason=reason)


def verdict(story, *, job=None, name="loader", **evidence):
    step = story.document.step(name)
    spec = story.document.spec.step(name)
    return judge(spec, step.launch, step, Evidence(job=job, **evidence))


@pytest.fixture
def story(tell):
    made = tell()
    made.launch("loader")
    made.launch("sink")
    return made


CASES = [
    # what was said, the replica at the end, more evidence, outcome, code
    (["started", "finished"], ended(code=0, phase="succeeded"), {}, "finished", None),
    (["started", "interrupted"], ended(code=0, phase="succeeded"), {}, "interrupted", "stopped"),
    (["started", "finished"], ended(code=1), {}, "finished", None),
    (["started", "interrupted", "started"], ended(code=0, phase="succeeded"), {}, "failed", "ended-without-a-word"),
    (["started"], ended(code=0, phase="succeeded"), {}, "failed", "ended-without-a-word"),
    ([], ended(code=78, restarts=0), {}, "failed", "exit-78"),
    (["error"], ended(code=78, restarts=0), {}, "failed", "bad-input"),
    (["started"], ended(code=1), {}, "failed", "backoff-limit-exceeded"),
    (["started"], ended(code=1), {"progressed": frozenset({0})}, "again", "error"),
    (["started"], ended(code=137, reason="oom-killed"), {}, "failed", "oom-killed"),
    (["started"], None, {}, "again", "error"),
    (["started"], None, {"stopping": STOPPING}, "interrupted", "forced"),
    ([], None, {"stopping": STOPPING}, "interrupted", "stopped"),
    (["started", "interrupted"], None, {"stopping": STOPPING}, "interrupted", "stopped"),
    (["started", "interrupted"], None, {"stopping": DRAINING}, "finished", None),
    (["started", "finished"], None, {"stopping": STOPPING}, "finished", None),
    (["started"], ended(code=1), {"stopping": STOPPING}, "interrupted", "forced"),
    (["started"], None, {"is_late": True}, "failed", "start-deadline"),
]


@pytest.mark.parametrize(("said", "ordinal", "evidence", "outcome", "code"), CASES)
def test_one_replica(story, said, ordinal, evidence, outcome, code):
    for number, event in enumerate(said):
        story.say("loader", event, run=f"r{number}", reason={"code": "bad-input", "message": "line 7"})
    job = None
    if ordinal is not None:
        condition = "complete" if ordinal.phase == "succeeded" else "failed"
        job = story.job("loader", live=0, condition=condition, ordinals=(ordinal,))
    found = verdict(story, job=job, **evidence)
    assert found.outcome == outcome
    assert (found.reason.code if found.reason else None) == code


@pytest.mark.parametrize(
    ("said", "ordinals", "outcome"),
    [
        (("finished", "finished"), (ended(0, 0, phase="succeeded"), ended(1, 0, phase="succeeded")), "finished"),
        (("finished", "interrupted"), (ended(0, 0, phase="succeeded"), ended(1, 0, phase="succeeded")), "interrupted"),
        (("interrupted", None), (ended(0, 0, phase="succeeded"), ended(1, 1)), "failed"),
        ((None, None), (ended(0, 78, restarts=0), ended(1, 143, restarts=0)), "failed"),
        (("finished", None), (ended(0, 0, phase="succeeded"), ended(1, 1)), "failed"),
    ],
)
def test_several_replicas(tell, make_step, said, ordinals, outcome):
    story = tell(make_step("loader", writes=("data",), replicas=2))
    story.launch("loader")
    for number, event in enumerate(said):
        if event is not None:
            story.say("loader", event, ordinal=number, run=f"r{number}")
    condition = "complete" if all(o.phase == "succeeded" for o in ordinals) else "failed"
    assert verdict(story, job=story.job("loader", live=0, condition=condition, ordinals=ordinals)).outcome == outcome


def test_progress_of_the_failed_replica_brings_a_new_launch_for_all(tell, make_step):
    story = tell(make_step("loader", writes=("data",), replicas=2))
    story.launch("loader")
    job = story.job("loader", live=0, condition="failed", ordinals=(ended(0, 143, restarts=0), ended(1, 1)))
    assert verdict(story, job=job, progressed=frozenset({1})).outcome == "again"
    assert verdict(story, job=job, progressed=frozenset({0})).outcome == "failed"


@pytest.mark.parametrize("guilty", [0, 1])
def test_the_replica_that_ended_with_78_is_the_one_that_took_its_job_down(tell, make_step, guilty):
    story = tell(make_step("loader", writes=("data",), replicas=2))
    story.launch("loader")
    ordinals = [ended(number, 78 if number == guilty else 143, restarts=0) for number in range(2)]
    found = verdict(story, job=story.job("loader", live=0, condition="failed", ordinals=tuple(ordinals)))
    assert (found.outcome, found.reason.code) == ("failed", "exit-78")


def test_five_idle_ends_are_no_progress(story):
    story.say("loader", "started")
    story.document.step("loader").ordinals[0].idle_ends = 5
    assert verdict(story).reason.code == "no-progress"


def test_partial_is_kept(story):
    story.say("loader", "finished", partial=True)
    assert verdict(story).is_partial


def test_a_sentence_names_what_the_worker_said(story):
    story.say("loader", "error", reason={"code": "fatal", "message": "division by zero"})
    found = verdict(story, job=story.job("loader", live=0, condition="failed", ordinals=(ended(),)))
    assert "division by zero" in found.reason.message


def test_a_sentence_ends_with_the_last_line_when_the_worker_said_nothing_itself(story):
    lines = ("Traceback (most recent call last):", "ImportError: no module named x" + "." * 1000)
    for code, reason in ((1, None), (78, None), (137, "oom-killed")):
        status = replace(ended(code=code, reason=reason), last_lines=lines)
        found = verdict(story, job=story.job("loader", live=0, condition="failed", ordinals=(status,)))
        assert "; its last line: ImportError: no module named x" in found.reason.message
        assert len(found.reason.message) < 700
    story.say("loader", "error", reason={"code": "fatal", "message": "division by zero"})
    found = verdict(
        story, job=story.job("loader", live=0, condition="failed", ordinals=(replace(ended(), last_lines=lines),))
    )
    assert found.reason.message.endswith("division by zero")
