"""Jobs of which no workflow knows are told, and ended only when that is switched on."""

import asyncio

import pytest

from queue_manager.launcher.interface import JobSpec

pytestmark = pytest.mark.looptime


def orphan(stage, name="job-orphan", **more):
    values = {
        "name": name,
        "queue_id": "wf-btcusdt-api_candles_1m-20240801-lost00",
        "step": "loader",
        "target": "loader",
        "launch": 1,
        "installation": stage.installation,
        "decision_id": "01J4QZ",
        "command": ("python",),
        "image": "loader",
        "env": {},
        "secret_env": {},
        "replicas": 1,
        "backoff_limit": 0,
        "grace_s": 5.0,
    }
    return JobSpec(**(values | more))


@pytest.mark.parametrize("is_removing", [False, True])
async def test_an_orphan_is_told_and_removed_only_when_that_is_switched_on(stage, make_step, is_removing):
    async with stage.running(removes_orphans=is_removing) as controller:
        queue_id = await stage.submit(make_step("loader"), controller=controller)
        mine = await stage.job(queue_id, "loader")
        await stage.launcher.create(orphan(stage))
        await asyncio.sleep(70)
        names = {job.name for job in await stage.launcher.list()}
    assert stage.orphans == [1, 0 if is_removing else 1]
    assert names == ({mine} if is_removing else {mine, "job-orphan"})
    assert (stage.launcher.deleted == ["job-orphan"]) is is_removing


async def test_a_job_of_another_installation_is_nobodys_orphan(stage, make_step):
    async with stage.running(removes_orphans=True) as controller:
        await stage.submit(make_step("loader"), controller=controller)
        await stage.launcher.create(orphan(stage, installation="another"))
        await asyncio.sleep(70)
    assert stage.orphans == [0, 0]
    assert stage.launcher.deleted == []
