"""What is to be done next, as a table of situations."""

from dataclasses import replace

import pytest

from queue_manager import decisions
from queue_manager.controller.plan import FORCED_GRACE_S, RELAUNCH_PAUSE_S, World, make_plan, sent_key
from queue_manager.launcher.interface import OrdinalStatus

NOW = 1000.0


def names(actions):
    return [(action.name, action.step) for action in actions]


def look(story, *jobs, **world):
    return make_plan(story.document, {job.name: job for job in jobs}, World(**({"now": story.now} | world)))


@pytest.fixture
def both(tell):
    story = tell()
    story.launch("loader")
    story.launch("sink")
    return story


def test_a_waiting_workflow_without_room_waits(tell):
    plan = look(tell(), has_room=False)
    assert (plan.changes, plan.effects, plan.wake_at) == ([], [], None)


def test_all_steps_are_launched_at_once(tell):
    assert names(look(tell()).changes) == [("launch", "loader"), ("launch", "sink")]


def test_a_recorded_launch_gets_its_job(both):
    plan = look(both)
    assert names(plan.effects) == [("create", "loader"), ("create", "sink")]
    assert plan.changes == []


def test_a_job_that_was_heard_of_and_is_gone_is_judged(both):
    both.say("loader", "started")
    assert names(look(both, both.job("sink")).changes) == [("judge", "loader")]


def test_a_job_is_judged_when_its_condition_is_there_and_nothing_of_it_lives(both):
    sink = both.job("sink")
    assert names(look(both, both.job("loader", condition="complete", live=1), sink).changes) == []
    assert names(look(both, both.job("loader", condition="complete", live=0), sink).changes) == [("judge", "loader")]


def test_running_jobs_are_left_alone_until_the_start_deadline(both):
    plan = look(both, both.job("loader"), both.job("sink"))
    assert (plan.changes, plan.effects) == ([], [])
    assert plan.wake_at == NOW + 120.0


def test_after_the_start_deadline_the_job_is_deleted_first(both):
    both.now += 121
    plan = look(both, both.job("loader"), both.job("sink"))
    assert names(plan.effects) == [("end-job", "loader"), ("end-job", "sink")]
    gone = look(both)
    assert [(a.name, a.is_late) for a in gone.changes] == [("judge", True), ("judge", True)]


def test_no_deadline_runs_while_a_part_is_away(both):
    both.now += 121
    jobs = both.job("loader"), both.job("sink")
    assert look(both, *jobs, healthy_since=float("inf")).effects == []
    assert look(both, *jobs, healthy_since=NOW + 100).wake_at == NOW + 220


def test_another_job_under_our_name_is_superseded(both):
    foreign = both.job("loader", labels={"decision_id": "another"})
    assert names(look(both, foreign, both.job("sink")).changes) == [("supersede", "loader")]


def test_a_drain_waits_for_all_writers_and_is_sent_once(both):
    for name in ("loader", "sink"):
        both.say(name, "started")
    sink = both.job("sink")
    assert look(both, both.job("loader"), sink).changes == []
    both.end("loader", "finished")
    assert names(look(both, sink).changes) == [("fix-drain", "sink")]
    both.drain("sink")
    assert names(look(both, sink).effects) == [("send-drain", "sink")]
    sent = frozenset({sent_key(both.document.step("sink").launch, "drain")})
    assert look(both, sink, sent=sent).effects == []


def test_a_stop_is_sent_once_and_forced_after_the_grace(both):
    for name in ("loader", "sink"):
        both.say(name, "started")
    both.document = decisions.ask_stop(both.document, drain=False, now=NOW)
    jobs = both.job("loader"), both.job("sink")
    plan = look(both, *jobs)
    assert names(plan.effects) == [("send-stop", "loader"), ("send-stop", "sink")]
    assert plan.wake_at == NOW + 30
    sent = frozenset(sent_key(both.document.step(name).launch, "stop") for name in ("loader", "sink"))
    both.now = NOW + 30
    forced = look(both, *jobs, sent=sent)
    assert names(forced.effects) == [("end-job", "loader"), ("end-job", "sink")]
    assert {action.grace_s for action in forced.effects} == {FORCED_GRACE_S}
    deleting = [replace(job, deleting=True) for job in jobs]
    assert look(both, *deleting, sent=sent).effects == []


def test_a_stop_with_drain_stops_writers_only(both):
    for name in ("loader", "sink"):
        both.say(name, "started")
    both.document = decisions.ask_stop(both.document, drain=True, now=NOW)
    assert names(look(both, both.job("loader"), both.job("sink")).effects) == [("send-stop", "loader")]


def test_what_was_not_launched_when_it_stops_is_dropped(tell):
    story = tell()
    story.document = decisions.ask_stop(story.document, drain=True, now=NOW)
    assert names(look(story, has_room=False).changes) == [("drop", "loader"), ("drop", "sink")]


def test_a_next_launch_waits_until_nothing_of_the_former_lives(both):
    both.say("loader", "started")
    former = both.job("loader")
    both.document = decisions.launch_again(both.document, "loader", "vanished", now=NOW)
    both.now += RELAUNCH_PAUSE_S
    sink = both.job("sink")
    assert names(look(both, former, sink).effects) == [("end-job", "loader")]
    assert look(both, replace(former, deleting=True), sink).effects == []
    assert names(look(both, replace(former, live=0), sink).changes) == [("launch", "loader")]


def test_a_launch_that_came_to_nothing_is_not_repeated_at_once(both):
    both.document = decisions.launch_again(both.document, "loader", "vanished", now=NOW)
    plan = look(both, both.job("sink"))
    assert plan.changes == []
    assert plan.wake_at == NOW + RELAUNCH_PAUSE_S


def test_a_run_that_is_too_long_is_stopped(tell, make_step):
    story = tell(make_step("live", max_run_s=50.0))
    story.launch("live")
    story.say("live", "started")
    assert look(story, story.job("live")).wake_at == NOW + 50
    story.now += 50
    plan = look(story, story.job("live"))
    assert [(a.name, a.reason.code) for a in plan.changes] == [("stop", "max-run")]


def test_ends_that_the_platform_counted_are_observed_once(both):
    both.say("loader", "started")
    restarted = both.job("loader", ordinals=(OrdinalStatus(ordinal=0, phase="running", restarts=1),))
    assert names(look(both, restarted, both.job("sink")).changes) == [("observe", "loader")]
    both.document.step("loader").ordinals[0].restarts = 1
    assert look(both, restarted, both.job("sink")).changes == []


def test_a_pending_jobs_reason_is_observed(both):
    pulling = both.job("loader", reason="image-pull", message="no such image")
    assert names(look(both, pulling, both.job("sink")).changes) == [("observe", "loader")]


def test_a_replica_that_leaves_again_and_again_is_given_up(both):
    both.say("loader", "started")
    both.document.step("loader").ordinals[0].idle_ends = 5
    assert names(look(both, both.job("loader"), both.job("sink")).effects) == [("end-job", "loader")]


def test_an_ended_workflow_is_released_and_removed(both):
    for name in ("loader", "sink"):
        both.end(name, "finished")
    old = both.job("loader", live=0, condition="complete")
    assert names(look(both, old).changes) == [("release", "")]
    both.document.status.topics = "released"
    assert look(both, old).changes == []
    both.document = decisions.ask_delete(both.document, purge=False, now=NOW)
    assert names(look(both, old).effects) == [("end-job", "")]
    assert look(both, replace(old, deleting=True)).effects == []
    assert names(look(both).effects) == [("remove", "")]
    foreign = both.job("loader", labels={"queue_id": "another"})
    assert names(look(both, foreign).effects) == [("remove", "")]
