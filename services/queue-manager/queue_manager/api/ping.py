"""Is anybody there: a ping to every step of a workflow, and each replica's answer."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from queue_manager.api.answers import PingAnswer, answer, answers
from queue_manager.api.failures import BoundedRoute
from queue_manager.api.parts import Given
from queue_manager.api.queries import PingParameters, QueueId
from queue_manager.problems import Problem
from streamforge_utils.contracts import names

router = APIRouter(prefix="/api/v1/workflows/{queue_id}/ping", tags=["workflows"], route_class=BoundedRoute)


@router.post("", responses=answers(PingAnswer, 404, 409))
async def ping(queue_id: QueueId, parts: Given, query: Annotated[PingParameters, Query()]) -> Response:
    """Ask every step, wait for the answers at most `timeout_s`; each one's round trip, null when silent."""
    document = await parts.workflow(queue_id)
    if document.is_ended:
        raise Problem("conflict", f"{queue_id} has ended ({document.status.state}): nobody is there to answer")
    attempt = document.status.attempt
    live = [step for step in document.spec.steps if document.step(step.name).live_launch(attempt) is not None]
    expected = sum(step.replicas for step in live)
    pongs = await parts.pinger.ping(queue_id, expected=expected, timeout_s=query.timeout_s) if expected else []
    trips = {(pong.event.step, pong.event.ordinal): pong.round_trip_s for pong in pongs}
    short = names.short_of(queue_id)
    steps = []
    for step in document.spec.steps:
        told = [trips.get((step.name, ordinal)) for ordinal in range(step.replicas)]
        heard = [trip for trip in told if trip is not None]
        replicas = [
            {
                "ordinal": ordinal,
                "producer": names.producer(step.name, short, ordinal, step.replicas),
                "round_trip_s": trip,
            }
            for ordinal, trip in enumerate(told)
        ]
        steps.append(
            {
                "name": step.name,
                "target": step.target,
                "state": document.step(step.name).state,
                "round_trip_s": max(heard) if len(heard) == step.replicas else None,
                "replicas": replicas,
            }
        )
    return answer({"queue_id": queue_id, "timeout_s": query.timeout_s, "steps": steps})
