"""A journal that cannot be written: nothing is taken, nothing is started, and nothing is forgotten."""

import asyncio
import os

import pytest

from streamforge_local.node import linux
from streamforge_local.node.job import JobSpec
from streamforge_local.node.journal import Journal
from streamforge_local.node.node import Node, NodeFullError
from streamforge_local.node.settings import NodeSettings
from streamforge_local.node.sweep import sweep

pytestmark = pytest.mark.integration


async def until(holds):
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.01)


@pytest.fixture
async def running(tmp_path):
    """A node in this process, and its journal."""
    settings = NodeSettings(socket=tmp_path / "s", data=tmp_path, first_delay_s=0.02, stop_grace_s=1)
    journal = Journal(tmp_path / "journal.sqlite")
    node = Node(settings, journal, env=os.environ, umask=0o22)
    node.load()
    task = asyncio.create_task(node.run())
    await until(node.ready.is_set)
    yield node, journal
    await node.stop()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    journal.close()


def writable(journal, yes):
    journal._db.execute(f"PRAGMA query_only = {'OFF' if yes else 'ON'}")


async def test_a_job_is_taken_and_deleted_only_if_that_is_recorded(running):
    node, journal = running
    node.create(JobSpec(name="old", command=("sleep", "600")))
    writable(journal, False)
    with pytest.raises(NodeFullError, match="Job new cannot be recorded: cannot write the journal"):
        node.create(JobSpec(name="new", command=("true",)))
    with pytest.raises(NodeFullError, match="the end of Job old cannot be recorded"):
        node.delete("old", None)
    assert list(node.jobs) == ["old"]
    assert not node.jobs["old"].deleting
    writable(journal, True)
    node.delete("old", 0.0)
    await until(lambda: not node.jobs)


async def test_a_restart_waits_until_it_can_be_recorded(running, tmp_path):
    node, journal = running
    job = node.create(JobSpec(name="job", command=("sh", "-c", f"echo x >> {tmp_path}/lives; sleep 0.2; exit 75")))
    await until((tmp_path / "lives").exists)
    writable(journal, False)
    await until(lambda: job.reason == "start-failed")
    assert "journal" in job.message
    before = (tmp_path / "lives").read_text()
    await asyncio.sleep(0.5)
    assert (tmp_path / "lives").read_text() == before
    writable(journal, True)
    await until(lambda: len((tmp_path / "lives").read_text()) > len(before))
    assert job.reason is None
    assert job.condition is None


async def test_a_log_that_cannot_be_opened_holds_the_start_and_says_why(running):
    node, _ = running
    node.logs.path("job", 0).mkdir(parents=True)
    job = node.create(JobSpec(name="job", command=("true",)))
    await until(lambda: job.reason == "start-failed")
    assert "cannot open the log file" in job.message
    node.logs.path("job", 0).rmdir()
    await until(lambda: job.condition == "complete")


async def test_a_sweep_leaves_processes_of_others_alone(running):
    node, _ = running
    job = node.create(JobSpec(name="job", command=("sleep", "600")))
    await until(lambda: job.ordinals[0].pid)
    assert await sweep("another mark") == 0
    os.kill(job.ordinals[0].pid, 0)


def test_the_kernel_counts_deaths_for_want_of_memory():
    assert linux.oom_kills() >= 0
