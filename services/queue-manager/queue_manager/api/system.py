"""What an operator's tools ask: health, metrics, and where the workers' metrics are."""

import asyncio
from typing import Any

import structlog
from fastapi import APIRouter
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.responses import Response

from queue_manager.api.answers import answer
from queue_manager.api.failures import BoundedRoute
from queue_manager.api.parts import Given
from queue_manager.model import WorkflowDocument
from streamforge_utils.errors import StreamForgeError

router = APIRouter(tags=["system"], route_class=BoundedRoute)

_STORE_S = 2.0  # what a scrape waits for the store: its own numbers must come even when the store is away
_AT_ONCE = 8
_log = structlog.get_logger(component="api")


@router.get("/health/live")
async def live(parts: Given) -> Response:
    """200 while every loop makes progress: 503 means that a restart would help."""
    is_ok, body = parts.health.live()
    return answer(body, 200 if is_ok else 503)


@router.get("/health/ready")
async def ready(parts: Given) -> Response:
    """200 when everything this needs answers; else 503 and what is missing."""
    is_ok, body = parts.health.ready()
    return answer(body, 200 if is_ok else 503)


@router.get("/health/startup")
async def startup(parts: Given) -> Response:
    """200 once the store was reached and prepared."""
    is_ok = parts.installation is not None
    return answer({"status": "ok" if is_ok else "starting"}, 200 if is_ok else 503)


@router.get("/metrics")
async def metrics(parts: Given) -> Response:
    """Prometheus' text format."""
    try:
        async with asyncio.timeout(_STORE_S):
            parts.metrics.show(await parts.backlog.counts())
    except (StreamForgeError, TimeoutError) as error:
        _log.warning("workflows_not_counted", reason=str(error))
    return Response(generate_latest(parts.registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)


@router.get("/prometheus/targets")
async def prometheus_targets(parts: Given) -> Response:
    """Workers that run now (https://prometheus.io/docs/prometheus/latest/http_sd).

    The workflow's id is a `__meta_` label, which Prometheus drops unless a relabelling keeps it.
    """
    gate = asyncio.Semaphore(_AT_ONCE)

    async def of(queue_id: str) -> list[dict[str, Any]]:
        async with gate:
            document = await parts.store.get(queue_id)
        return [] if document is None else _workers(document)

    running = await parts.prepared_store().open_workflows()
    found = await asyncio.gather(*(of(workflow.queue_id) for workflow in running))
    return answer([worker for workers in found for worker in workers])


def _workers(document: WorkflowDocument) -> list[dict[str, Any]]:
    return [
        {
            "targets": [f"{ordinal.host or '127.0.0.1'}:{ordinal.metrics_port}"],
            "labels": {
                "template": document.spec.template or "",
                "target": step.target,
                "step": step.name,
                "ordinal": str(number),
                "__meta_streamforge_queue_id": document.queue_id,
            },
        }
        for step in document.spec.steps
        if (launch := document.step(step.name).live_launch(document.status.attempt)) is not None
        for number, ordinal in sorted(document.step(step.name).ordinals.items())
        if ordinal.metrics_port and ordinal.launch == launch.number and not ordinal.is_finished
    ]
