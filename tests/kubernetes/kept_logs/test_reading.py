"""Logs of pods that are gone come out of the archive; on nodes that kwok plays, which give no logs."""

import time

import pytest
import structlog

from queue_manager.launcher.interface import LauncherUnavailable
from queue_manager.launcher.kubernetes.archive import Archive, Kept
from queue_manager.launcher.kubernetes.keeper import READY_S
from queue_manager.launcher.kubernetes.settings import KubernetesSettings
from queue_manager.launcher.kubernetes.spool import Spool
from streamforge_local.kubernetes.kubeconfig import write_kubeconfig

BEGAN = 1_790_000_000.0
"""When the first of the pods was made that are played in the archive."""


@pytest.fixture
async def stage(control_plane, make_stage):
    """Nobody watches there: what is in the archive is what the test has put there."""
    async with make_stage(control_plane) as stage:
        yield stage


async def keep(uid, *lines, ordinal=0, life=0, job="job-a"):
    """A log in the archive, of a pod that was made so many seconds after the first; (second, text) each."""
    with Spool(100_000) as spool:
        for second, text in lines:
            await spool.add(BEGAN + second, text)
        with await spool.packed({"step": "load", "launch": "2"}) as packed:
            kept = Kept(job=job, created_at=BEGAN + life, ordinal=ordinal, uid=uid)
            await Archive(KubernetesSettings()).put(kept, packed)


@pytest.fixture
async def kept(stage):
    """Two lives of one ordinal, one of another; of a Job that is gone."""
    await keep("u2", (20, "c"), (21, "d"), life=20)
    await keep("u1", (1, "a"), (2.5, "b"), life=0)
    await keep("u3", (3, "x"), ordinal=1)
    await keep("u4", (3, "another Job's"), job="job-ab")
    return stage


@pytest.mark.parametrize("follow", [False, True])
async def test_the_log_of_a_job_that_is_gone_is_read_each_ordinal_in_the_order_of_its_lives(kept, follow):
    lines = await kept.lines(follow=follow)
    assert [text for replica, text in lines if replica == 0] == ["a", "b", "c", "d"]
    assert [text for replica, text in lines if replica == 1] == ["x"]
    assert len(lines) == 5


async def test_its_lines_say_where_they_come_from(kept):
    (line,) = [line async for line in kept.launchers[0].logs("job-a", ordinal=1)]
    assert (line.ts, line.step, line.replica, line.launch) == (BEGAN + 3, "load", 1, 2)


@pytest.mark.parametrize(
    ("wanted", "texts"),
    [
        ({"ordinal": 1}, "x"),
        ({"ordinal": 7}, ""),
        ({"tail": 0}, ""),
        ({"tail": 1}, "dx"),
        ({"tail": 3, "ordinal": 0}, "bcd"),
        ({"tail": 9}, "abcdx"),
        ({"since": BEGAN + 2.5}, "bcdx"),
        ({"since": BEGAN + 2.6, "tail": 1}, "dx"),
        ({"since": BEGAN + 100}, ""),
    ],
)
@pytest.mark.parametrize("follow", [False, True])
async def test_a_part_of_it_can_be_asked_for(kept, wanted, texts, follow):
    lines = await kept.lines(follow=follow, **wanted)
    assert sorted(text for _, text in lines) == sorted(texts)


async def test_a_job_of_which_nothing_was_kept_has_no_lines(stage):
    assert await stage.lines("nothing", follow=True) == []


async def test_an_archive_that_is_away_hides_nothing_and_is_told(stage, log_archive):
    log_archive.touch()
    with structlog.testing.capture_logs() as told:
        assert await stage.lines() == []
        assert await stage.lines() == []
    assert [event["event"] for event in told] == ["log_archive_away"]


async def test_a_kept_log_that_is_broken_ends_where_it_breaks(kept, log_archive):
    (path,) = (log_archive / "job-a").glob("*u1*")
    path.write_bytes(path.read_bytes()[:-8])
    with structlog.testing.capture_logs() as told:
        lines = await kept.lines(ordinal=0)
    assert [text for _, text in lines][-2:] == ["c", "d"]
    assert [event["event"] for event in told] == ["kept_log_unreadable"]


async def _ended(stage):
    """A Job that has run on a node that gives no logs; its pod."""
    await stage.create(exit=0)
    assert (await stage.ended()).condition == "complete"
    return (await stage.pods())[0]["metadata"]


async def test_a_log_that_a_node_does_not_give_is_an_error_until_it_was_kept(stage, own_control_plane):
    async with stage.watching():
        pod = await _ended(stage)
    with pytest.raises(LauncherUnavailable) as told:
        await stage.lines()
    assert told.value.code == "launcher-unreachable"
    await keep(pod["uid"], (1, "kept"))
    assert await stage.lines() == [(0, "kept")]
    assert await stage.lines(tail=5) == [(0, "kept")]
    assert await stage.lines(follow=True) == [(0, "kept")]


async def test_logs_that_cannot_be_kept_are_told_and_hold_nothing_up(stage, own_control_plane, log_archive):
    with structlog.testing.capture_logs() as told:
        async with stage.watching():
            await _ended(stage)
            await stage.create(stage.spec("job-b"))
            await stage.runs("job-b")
            for name in ("job-a", "job-b"):
                began = time.monotonic()
                await stage.launchers[0].delete(name)
                assert time.monotonic() - began < READY_S / 2
            await stage.until_gone("job-a")
            await stage.until_gone("job-b")
    first = next(event for event in told if event["event"] == "log_not_kept")
    assert first["job"] == "job-a"
    assert first["again_s"] > 0
    assert list(log_archive.glob("*")) == []


async def test_without_the_right_to_read_logs_that_is_said(stage, own_control_plane, monkeypatch, tmp_path):
    async with stage.watching():
        await _ended(stage)
    access = own_control_plane.service_account(stage.namespace, "reader")
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{stage.namespace}"
    rules = [
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
    ]
    await stage.call("post", f"{rbac}/roles", {"metadata": {"name": "reader"}, "rules": rules})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"}
    subject = {"kind": "ServiceAccount", "name": "reader", "namespace": stage.namespace}
    binding = {"metadata": {"name": "reader"}, "roleRef": role, "subjects": [subject]}
    await stage.call("post", f"{rbac}/rolebindings", binding)
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", access, namespace=stage.namespace)))
    reader = stage.launcher()
    with pytest.raises(LauncherUnavailable, match="pods/log") as told:
        _ = [line async for line in reader.logs("job-a")]
    assert told.value.code == "not-authorized"
