"""The hooks of the double; what it shares with real launchers is in integration/launcher/test_contract.py."""

from dataclasses import replace

import pytest

from queue_manager.launcher import JobRefused, LauncherUnavailable
from queue_manager.launcher.memory import MemoryLauncher


async def test_ordinals_wait_for_their_start_when_told_to(spec):
    launcher = MemoryLauncher(auto_start=False, clock=lambda: 5.0)
    assert (await launcher.create(spec)).live == 0
    launcher.start("job", 1)
    status = await launcher.get("job")
    assert status is not None
    assert [(o.phase, o.started_at) for o in status.ordinals] == [("pending", None), ("running", 5.0)]


async def test_disobedient_processes_end_when_the_test_says_so(spec):
    launcher = MemoryLauncher(obedient=False)
    await launcher.create(spec)
    await launcher.delete("job")
    launcher.exit("job", 0, 143)
    status = await launcher.get("job")
    assert status is not None
    assert (status.deleting, status.live) == (True, 1)
    launcher.exit("job", 1, 137)
    assert await launcher.get("job") is None
    assert (launcher.created, launcher.deleted) == ([spec], ["job"])


async def test_faults_are_raised_as_set(spec):
    launcher = MemoryLauncher()
    launcher.refusal = JobRefused("bad-image", "no such image")
    with pytest.raises(JobRefused, match="no such image") as refused:
        await launcher.create(spec)
    assert refused.value.code == "bad-image"
    launcher.available = False
    with pytest.raises(LauncherUnavailable):
        await launcher.list()
    with pytest.raises(LauncherUnavailable):
        await launcher.check()


async def test_a_job_may_vanish_from_outside(spec):
    launcher = MemoryLauncher()
    await launcher.create(spec)
    watch = launcher.watch()
    assert (await anext(watch)).name == "job"
    assert (await anext(watch)).synced
    launcher.vanish("job")
    assert (await anext(watch)).status is None
    await watch.aclose()
    assert await launcher.list() == []


async def test_an_exit_of_what_does_not_run_is_the_tests_mistake(spec):
    launcher = MemoryLauncher(auto_start=False)
    await launcher.create(spec)
    with pytest.raises(AssertionError, match="does not run"):
        launcher.exit("job", 0, 0)


async def test_the_lines_of_a_life_are_told_with_its_end(spec):
    launcher = MemoryLauncher()
    await launcher.create(replace(spec, replicas=1, backoff_limit=2))
    told = []
    for code, line in ((1, "first"), (1, "second"), (1, None)):
        if line is not None:
            launcher.say("job", line)
        launcher.exit("job", 0, code)
        status = await launcher.get("job")
        assert status is not None
        told.append(status.ordinals[0].last_lines)
    assert told == [("first",), ("second",), ()]
