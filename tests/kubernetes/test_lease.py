"""Who acts, by a Lease object of a real API server: two queue-managers' elections, one of them killed or frozen."""

import asyncio
import subprocess
import sys
import time
from datetime import datetime

import pytest

from queue_manager.controller.lease import LeaseInDoubt, LeaseKeeper, LeaseLost
from queue_manager.launcher.kubernetes.launcher import KubernetesLauncher
from queue_manager.launcher.kubernetes.settings import KubernetesSettings

SECONDS = 10.0
TAKEN_OVER_WITHIN_S = 15.0
OWNER, OTHER = "host-a/1/01A", "host-b/1/01B"


class Candidates:
    def __init__(self, cluster, namespace):
        self.cluster, self.namespace = cluster, namespace
        self.launchers = []
        self.told = []

    def election(self):
        settings = KubernetesSettings(namespace=self.namespace, config_map="", secret="")
        self.launchers.append(KubernetesLauncher(settings))
        return self.launchers[-1].election()

    def keeper(self):
        return LeaseKeeper(self.election(), self, seconds=SECONDS)

    def tell(self, part, error):
        """What a Watch is told."""
        self.told.append((part, str(error)))

    def lease(self):
        path = f"/apis/coordination.k8s.io/v1/namespaces/{self.namespace}/leases/streamforge-queue-manager"
        return self.cluster.api.get(path)["spec"]


@pytest.fixture
async def candidates(control_plane, namespace, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig))
    made = Candidates(control_plane, namespace)
    yield made
    for launcher in made.launchers:
        await launcher.close()


async def test_the_first_has_it_and_the_object_says_so(candidates):
    first, second = candidates.election(), candidates.election()
    assert await first.take(OWNER, seconds=SECONDS) == 1
    assert await second.take(OTHER, seconds=SECONDS) is None
    spec = candidates.lease()
    assert (spec["holderIdentity"], spec["leaseDurationSeconds"], spec["leaseTransitions"]) == (OWNER, 10, 1)
    renewed = datetime.fromisoformat(spec["renewTime"].replace("Z", "+00:00")).timestamp()
    assert renewed == pytest.approx(time.time(), abs=5)
    assert await first.take(OWNER, seconds=SECONDS) == 1


async def test_one_that_is_given_back_is_taken_at_once(candidates):
    first, second = candidates.election(), candidates.election()
    await first.take(OWNER, seconds=SECONDS)
    await second.take(OTHER, seconds=SECONDS)
    await second.give_back(OTHER)  # it is not its own
    assert candidates.lease()["holderIdentity"] == OWNER
    await first.give_back(OWNER)
    assert await second.take(OTHER, seconds=SECONDS) == 2


@pytest.fixture
def ended():
    """An owner whose process was here and is no more."""
    code = "from queue_manager.owner import new_owner; print(new_owner())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


async def test_one_of_a_process_that_is_no_more_is_taken_at_once(candidates, ended):
    await candidates.election().take(ended, seconds=SECONDS)
    assert await candidates.election().take(OTHER, seconds=SECONDS) == 2


async def test_of_many_that_ask_at_once_one_has_it(candidates):
    elections = [candidates.election() for _ in range(8)]
    for _ in range(2):
        asked = [election.take(f"host/{n}/x", seconds=SECONDS) for n, election in enumerate(elections)]
        epochs = await asyncio.gather(*asked)
        assert [epoch for epoch in epochs if epoch is not None] == [1]


async def test_the_lease_of_one_that_was_killed_is_taken_over_in_time(candidates):
    killed, other = candidates.keeper(), candidates.keeper()
    assert await killed.acquire()
    assert not await other.acquire()
    began = time.monotonic()
    while not await other.acquire():
        await other.pause()
    assert SECONDS <= time.monotonic() - began < TAKEN_OVER_WITHIN_S
    assert other.epoch == killed.epoch + 1


async def test_one_that_was_frozen_does_nothing_more(candidates):
    frozen, other = candidates.keeper(), candidates.keeper()
    assert await frozen.acquire()
    while not await other.acquire():
        await other.pause()
    with pytest.raises(LeaseInDoubt):
        frozen.check()
    with pytest.raises(LeaseLost):
        await frozen.renew()


async def test_an_api_server_that_is_away_leaves_it_in_doubt_and_gives_it_back(own_control_plane, candidates):
    keeper = candidates.keeper()
    assert await keeper.acquire()
    renewing = asyncio.create_task(keeper.renew())
    own_control_plane.apiserver.kill()
    await asyncio.sleep(SECONDS * 0.8)
    with pytest.raises(LeaseInDoubt):
        keeper.check()
    assert {part for part, _ in candidates.told} == {"launcher"}
    own_control_plane.start()
    await asyncio.to_thread(own_control_plane.wait_ready)
    deadline = time.monotonic() + TAKEN_OVER_WITHIN_S
    while True:
        try:
            keeper.check()
            break
        except LeaseInDoubt:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
    assert keeper.epoch == 1
    renewing.cancel()
    await asyncio.wait([renewing])
