"""Workflows under a name: ``templates/*.yaml`` (contract, section 9). Owns the format of the file."""

import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from queue_manager.catalogue import Catalogue, read_manifest
from queue_manager.targets import Manifest
from streamforge_utils.contracts import names

_DURATION = re.compile(r"([1-9][0-9]*)([smhd])\Z")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def _duration(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value
    match = _DURATION.match(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("a whole number and one of s, m, h, d, as 7d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def _name(name: str) -> str:
    if not names.is_step(name):
        raise ValueError("at most 32 of [a-z0-9-], no hyphen at the ends")
    return name


Name = Annotated[str, AfterValidator(_name)]


class TemplateStep(Manifest):
    """A step; a request may override its params, replicas and streams."""

    target: Name
    name: Name | None = None
    params: dict[str, Any] = Field(default_factory=dict)
    replicas: int | None = Field(default=None, ge=1)
    reads: tuple[str, ...] | None = None
    writes: tuple[str, ...] | None = None

    @property
    def step_name(self) -> str:
        """Its name in the workflow: its target unless it has one of its own."""
        return self.name or self.target


class Template(Manifest):
    """A workflow that lacks only what a request says."""

    apiVersion: Literal["streamforge/v1"]
    kind: Literal["Template"]
    name: Name
    description: str
    retention: Annotated[timedelta, BeforeValidator(_duration)] = timedelta(days=7)
    """How long streams and dead letters are kept after the workflow's end: a whole number and s, m, h or d."""
    on_failure: Literal["stop", "continue"] = "stop"
    """What the other steps do when one has failed for good."""
    steps: tuple[TemplateStep, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _unique(self) -> Self:
        steps = [step.step_name for step in self.steps]
        if len(set(steps)) != len(steps):
            raise ValueError("two steps have one name: give them names")
        return self


Templates = Catalogue[Template]


def _read(path: Path) -> Template:
    return read_manifest(path, Template)


def read_templates(folders: Sequence[Path]) -> Templates:
    """Every ``<folder>/*.yaml``.

    Raises:
        ConfigurationError: naming the file and the field that is wrong.
    """
    return Catalogue(folders, "*.yaml", _read)
