"""What can be run: targets and templates, with the JSON Schema of each one's params."""

from fastapi import APIRouter
from starlette.responses import Response

from queue_manager.api.answers import TargetList, TemplateList, answer, answers
from queue_manager.api.failures import BoundedRoute
from queue_manager.api.parts import Given
from queue_manager.api.queries import None_
from queue_manager.targets import Target, Targets
from queue_manager.templates import Template

router = APIRouter(prefix="/api/v1", tags=["installed"], route_class=BoundedRoute)


@router.get("/targets", responses=answers(TargetList))
async def targets(parts: Given, query: None_) -> Response:
    """Every service that can be a step of a workflow."""
    found = sorted(parts.targets.all().items())
    return answer({"items": [_target(installed.target) for _, installed in found], "next": None})


@router.get("/templates", responses=answers(TemplateList))
async def templates(parts: Given, query: None_) -> Response:
    """Every workflow that can be started by name."""
    found = sorted(parts.templates.all().items())
    return answer({"items": [_template(template, parts.targets) for _, template in found], "next": None})


def _target(target: Target) -> dict[str, object]:
    return {
        "name": target.name,
        "description": target.description,
        "version": target.version,
        "types": target.types,
        "requires": target.requires,
        "reads": [{"stream": use.stream, "schema": use.schema_name} for use in target.reads],
        "writes": [{"stream": use.stream, "schema": use.schema_name} for use in target.writes],
        "order": target.order,
        "replicas": target.replicas.model_dump(),
        "params": target.params,
    }


def _template(template: Template, installed: Targets) -> dict[str, object]:
    return {
        "name": template.name,
        "description": template.description,
        "retention_s": int(template.retention.total_seconds()),
        "on_failure": template.on_failure,
        "steps": [
            {
                "name": step.step_name,
                "target": step.target,
                "params": step.params,
                "replicas": step.replicas,
                "reads": step.reads,
                "writes": step.writes,
                "params_schema": found.target.params if (found := installed.get(step.target)) else None,
            }
            for step in template.steps
        ],
    }
