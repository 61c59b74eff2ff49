"""The FastAPI application: routers, error documents, guard."""

from typing import Any

from fastapi import FastAPI

from queue_manager.api import dead_letters, events, installed, logs, ping, system, workflows
from queue_manager.api.answers import ProblemAnswer
from queue_manager.api.failures import Guard, add_handlers
from queue_manager.api.parts import Parts
from streamforge_utils.contracts.reasons import DOCS

VERSION = "0.1.0"
_DESCRIPTION = f"""Turns one request into a supervised streaming pipeline.

Errors are problem details (RFC 9457) with a stable `type`; every reason and problem has a page under `{DOCS}`.
Lists are `{{"items": [], "next": cursor or null}}`; times are ISO 8601, UTC."""


def create_app(parts: Parts | None) -> FastAPI:
    """The application over its collaborators; without them it can only describe itself."""
    app = FastAPI(
        title="StreamForge queue-manager",
        version=VERSION,
        description=_DESCRIPTION,
        redirect_slashes=False,
        responses={},
    )
    for module in (workflows, events, logs, ping, dead_letters, installed, system):
        app.include_router(module.router)
    add_handlers(app)
    if parts is not None:
        app.state.parts = parts
        app.add_middleware(Guard, parts=parts)
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        document = describe()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas.update(_problem_schemas())
        return document

    app.openapi = openapi  # type: ignore[method-assign]
    return app


def _problem_schemas() -> dict[str, Any]:
    schema = ProblemAnswer.model_json_schema(ref_template="#/components/schemas/{model}")
    return {**schema.pop("$defs"), "ProblemAnswer": schema}
