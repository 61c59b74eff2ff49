"""The floor of a wave: the same Jobs, made by a bare program at the same pace, that nobody follows or speaks for."""

import asyncio
import time
from typing import Any

import httpx

from benchmarks.job_ends import JobEnds
from benchmarks.pace import at_pace
from benchmarks.simulated_cluster import Scene
from queue_manager.launcher.interface import JobSpec
from queue_manager.launcher.kubernetes.manifest import job_manifest
from queue_manager.launcher.kubernetes.settings import KubernetesSettings
from streamforge_local.kubernetes.api import tls_context
from streamforge_local.kubernetes.voices import PLAY

APP = "bare"
SELECTOR = f"app={APP}"
"""Not the queue-manager's."""
CALLERS = 16
LONGEST_S = 900.0


async def seconds(scene: Scene, count: int, *, rate: float, run_s: float) -> float:
    """From the first request to the end of the last Job; they are removed afterwards."""
    with JobEnds(scene, SELECTOR) as job_ends:
        began = time.perf_counter()
        await _create(scene, count, rate=rate, run_s=run_s)
        async with asyncio.timeout(LONGEST_S):
            while len(job_ends.ends) < count:
                job_ends.check()
                await asyncio.sleep(0.1)
    await asyncio.to_thread(scene.clear, SELECTOR)
    return job_ends.ends[-1][1] - began


async def _create(scene: Scene, count: int, *, rate: float, run_s: float) -> None:
    access = scene.cluster.access
    async with httpx.AsyncClient(
        base_url=access.url, verify=tls_context(access), timeout=60, trust_env=False
    ) as client:

        async def create(number: int, _: float) -> None:
            manifest = _manifest(scene.namespace, number, run_s)
            (await client.post(scene.jobs, json=manifest)).raise_for_status()

        await at_pace(count, rate, [create] * CALLERS)


def _manifest(namespace: str, number: int, run_s: float) -> dict[str, Any]:
    """As the launcher writes it."""
    played = {f"{PLAY}exit": "0", f"{PLAY}run": f"{run_s * 1000:.0f}ms"}
    settings = KubernetesSettings(namespace=namespace, pod_template_patch={"metadata": {"annotations": played}})
    spec = JobSpec(
        name=f"bare-{number}",
        queue_id=f"bare-{number}",
        step="played",
        target="played",
        launch=1,
        installation="bare",
        decision_id=f"{number:026}",
        command=("python", "-m", "played"),
        image="streamforge/played:0.1.0",
        env={},
        secret_env={},
        replicas=1,
        backoff_limit=2,
        grace_s=30.0,
        resources={"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
    )
    manifest = job_manifest(spec, settings)
    for labelled in (manifest, manifest["spec"]["template"]):
        labelled["metadata"]["labels"]["app"] = APP
    return manifest
