"""Every rule about restarts, in virtual time."""

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamforge_local.node.job import Job, JobSpec, RestartPolicy, Signal, Start

POLICY = RestartPolicy(first_delay_s=0.1, longest_delay_s=5.0, ttl_s=100.0)


def a_job(*, replicas=1, backoff_limit=2, grace_s=10.0):
    spec = JobSpec(name="job", command=("x",), replicas=replicas, backoff_limit=backoff_limit, grace_s=grace_s)
    return Job(spec, POLICY, created_at=0.0)


def run_until(job, now):
    """Start what waits, at the time for which it asks."""
    wake_at = job.wake_at()
    assert wake_at is not None
    return job.step(max(now, wake_at))


def test_every_ordinal_is_started_once():
    job = a_job(replicas=3)
    assert job.step(0.0) == [Start(0), Start(1), Start(2)]
    assert job.step(1.0) == []
    assert job.live == 3


def test_a_job_is_complete_when_all_ordinals_have_succeeded():
    job = a_job(replicas=2)
    job.step(0.0)
    job.exited(0, 0, 1.0)
    assert job.condition is None
    job.exited(1, 0, 2.0)
    assert job.condition == "complete"
    assert [o["phase"] for o in job.status()["ordinals"]] == ["succeeded", "succeeded"]


def test_an_ordinal_that_succeeded_is_not_started_again():
    job = a_job(replicas=2)
    job.step(0.0)
    job.exited(0, 0, 1.0)
    job.exited(1, 1, 1.0)
    assert run_until(job, 1.0) == [Start(1)]


def test_counted_failures_are_restarted_with_a_growing_delay_until_the_limit():
    job = a_job(backoff_limit=3)
    job.step(0.0)
    delays = []
    for _ in range(3):
        job.exited(0, 1, 100.0)
        delays.append(job.wake_at() - 100.0)
        assert job.step(100.0) == []
        assert run_until(job, 100.0) == [Start(0)]
    assert delays == pytest.approx([0.1, 0.2, 0.4])
    job.exited(0, 9, 101.0)
    assert (job.condition, job.reason) == ("failed", "backoff-limit-exceeded")
    assert "ordinal 0 failed 4 times" in job.message
    assert "exit code 9" in job.message
    assert job.ordinals[0].restarts == 4


def test_the_limit_holds_for_each_ordinal_alone():
    job = a_job(replicas=2, backoff_limit=1)
    job.step(0.0)
    job.exited(0, 1, 1.0)
    job.exited(1, 1, 1.0)
    assert job.condition is None
    assert run_until(job, 1.0) == [Start(0), Start(1)]


@pytest.mark.parametrize("code", [75, 143])
def test_a_disturbed_ordinal_is_restarted_for_ever_and_not_counted(code):
    job = a_job(backoff_limit=0)
    job.step(0.0)
    now = 0.0
    for _ in range(20):
        job.exited(0, code, now)
        now = job.wake_at()
        assert job.step(now) == [Start(0)]
    assert (job.condition, job.ordinals[0].restarts, job.ordinals[0].disruptions) == (None, 0, 20)


def test_the_delay_after_disturbances_is_bounded_and_begins_anew_after_a_long_life():
    job = a_job()
    job.step(0.0)
    for _ in range(10):
        job.exited(0, 75, 0.0)
        delay = job.wake_at()
        job.step(delay)
    assert delay == 5.0
    job.exited(0, 75, 1000.0)
    assert job.wake_at() == pytest.approx(1000.1)


def test_exit_78_fails_the_job_at_once_and_ends_the_others():
    job = a_job(replicas=3, grace_s=7.0)
    job.step(0.0)
    job.exited(1, 1, 1.0)
    job.exited(0, 78, 1.0)
    assert (job.condition, job.reason) == ("failed", "exit-78")
    assert [o.phase for o in job.ordinals] == ["failed", "failed", "running"]
    assert job.step(1.0) == [Signal(2, signal.SIGTERM)]
    assert job.step(7.9) == []
    assert job.wake_at() == 8.0
    assert job.step(8.0) == [Signal(2, signal.SIGKILL)]
    assert job.step(9.0) == []
    job.exited(2, 137, 9.0)
    assert (job.live, job.ordinals[2].reason, job.condition) == (0, "terminated", "failed")


def test_a_condition_is_final_whatever_ends_later():
    job = a_job(replicas=2)
    job.step(0.0)
    job.exited(0, 78, 1.0)
    job.exited(1, 0, 2.0)
    assert (job.condition, job.reason) == ("failed", "exit-78")


def test_a_death_by_a_foreign_signal_counts():
    job = a_job(backoff_limit=0)
    job.step(0.0)
    job.exited(0, 137, 1.0)
    assert (job.condition, job.reason) == ("failed", "backoff-limit-exceeded")


def test_the_last_output_is_of_the_latest_end_and_of_faults_alone():
    job = a_job(backoff_limit=5)
    told = []
    for code in (1, 75, 0):
        run_until(job, 0.0)
        job.exited(0, code, 1.0, output=f"so {code}")
        told.append(job.status()["ordinals"][0]["last_output"])
    assert told == ["so 1", "so 75", ""]


def test_a_death_with_the_node_leaves_no_last_output():
    job = a_job()
    job.step(0.0)
    job.exited(0, 1, 1.0, output="so 1")
    run_until(job, 1.0)
    job.lost(2.0)
    assert job.status()["ordinals"][0]["last_output"] == ""


def test_a_death_for_want_of_memory_says_so():
    job = a_job(backoff_limit=0)
    job.step(0.0)
    job.exited(0, 137, 1.0, oom=True)
    assert job.ordinals[0].reason == "oom-killed"
    assert job.message == "ordinal 0 failed 1 times, the last time for want of memory"


def test_deaths_with_the_node_do_not_count_and_are_restarted_at_once():
    job = a_job(replicas=2, backoff_limit=0)
    job.step(0.0)
    job.exited(0, 0, 1.0)
    assert job.lost(2.0)
    assert [o.phase for o in job.ordinals] == ["succeeded", "pending"]
    assert (job.ordinals[1].disruptions, job.ordinals[1].reason) == (1, "node-lost")
    assert job.step(2.0) == [Start(1)]


def test_a_deleted_job_is_gone_only_when_nothing_of_it_lives():
    job = a_job(replicas=2, grace_s=3.0)
    job.step(0.0)
    job.delete(5.0, None)
    assert job.step(5.0) == [Signal(0, signal.SIGTERM), Signal(1, signal.SIGTERM)]
    job.exited(0, 143, 6.0)
    assert (job.gone, job.status()["deleting"], job.live) == (False, True, 1)
    assert job.step(8.0) == [Signal(1, signal.SIGKILL)]
    job.exited(1, 137, 8.1)
    assert job.gone


def test_a_second_delete_shortens_the_grace():
    job = a_job(grace_s=60.0)
    job.step(0.0)
    job.delete(1.0, None)
    job.step(1.0)
    job.delete(2.0, 0.0)
    assert job.step(2.0) == [Signal(0, signal.SIGKILL)]


def test_a_deleted_job_starts_nothing_more():
    job = a_job()
    job.delete(0.0, None)
    assert job.gone
    assert job.step(1.0) == []


def test_a_finished_job_goes_after_its_time_to_live():
    job = a_job()
    job.step(0.0)
    job.exited(0, 0, 50.0)
    assert job.wake_at() == 150.0
    job.step(149.9)
    assert not job.gone
    job.step(150.0)
    assert job.gone


def test_an_evicted_job_goes_on_with_the_next_node():
    job = a_job(replicas=3, backoff_limit=0)
    job.step(0.0)
    job.evict(2.0)
    assert job.step(1.0) == [Signal(i, signal.SIGTERM) for i in range(3)]
    job.exited(0, 143, 1.5)
    job.exited(1, 0, 1.5)
    assert job.step(3.0) == [Signal(2, signal.SIGKILL)]
    job.exited(2, 137, 3.1)
    assert (job.condition, job.live, job.step(50.0)) == (None, 0, [])
    restored = Job.restore(job.spec, POLICY, job.state())
    assert restored.step(50.0) == [Start(0), Start(2)]


def test_a_start_that_fails_is_tried_again_and_says_why():
    job = a_job(backoff_limit=0)
    job.step(0.0)
    job.not_started(0, "cannot fork: no memory", 0.0)
    assert (job.status()["reason"], job.status()["message"]) == ("start-failed", "cannot fork: no memory")
    assert run_until(job, 0.0) == [Start(0)]
    job.running_as(0, 42)
    assert (job.reason, job.ordinals[0].pid) == (None, 42)


def test_nothing_is_started_while_there_is_no_warm_process():
    job = a_job()
    assert job.step(0.0, can_start=False) == []
    assert job.wake_at(can_start=False) is None
    assert job.step(0.0) == [Start(0)]


def test_secrets_are_not_shown():
    spec = JobSpec.model_validate({"name": "job", "command": ["x"], "secret_env": {"KAFKA_PASSWORD": "hunter2"}})
    assert "hunter2" not in repr(spec)
    assert "hunter2" not in repr(Job(spec, POLICY, created_at=0.0).status())


EXITS = st.sampled_from([0, 1, 75, 78, 137, 143])


@given(st.lists(st.tuples(st.integers(0, 2), EXITS | st.sampled_from(["lost", "delete"])), max_size=40))
def test_a_job_restored_at_any_point_does_what_the_original_does(moves):
    job = a_job(replicas=3)
    now = 0.0
    job.step(now)
    for ordinal, move in moves:
        now += 1.0
        if move == "lost":
            job.lost(now)
        elif move == "delete":
            job.delete(now, None)
        elif job.ordinals[ordinal].phase == "running":
            job.exited(ordinal, move, now)
        restored = Job.restore(job.spec, POLICY, job.state())
        assert restored.status() == job.status()
        now += 10.0
        assert restored.step(now) == job.step(now)
        assert job.live <= 3
        assert job.condition is None or not any(o.phase == "pending" for o in job.ordinals)


def test_an_ended_job_forgets_what_only_a_start_needs():
    spec = JobSpec(name="j", command=("true",), env={"A": "1"}, secret_env={"B": "2"})
    job = Job(spec, RestartPolicy(), created_at=0.0)
    assert job.step(0.0) == [Start(0)]
    job.forget_environment()
    assert job.spec == spec
    job.exited(0, 0, 1.0)
    job.forget_environment()
    assert (job.spec.env, job.spec.secret_env) == ({}, {})
