"""How a worker reads its environment, also when a person started it by hand."""

import os
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from streamforge_utils.contracts import names
from streamforge_utils.errors import ConfigurationError
from streamforge_utils.settings import WorkerSettings, faults, local_env, read_settings

P = TypeVar("P", bound=BaseModel)

BY_HAND = "by-hand"


def worker_settings(target: str, params: type[P], given: dict[str, Any] | None = None) -> tuple[WorkerSettings, P]:
    """The settings of this process and the target's own; ``given`` params stand in the place of PARAMS.

    Without KAFKA_BOOTSTRAP_SERVERS the addresses of the stack that ``make up`` started here are taken; without
    QUEUE_ID one is made.

    Raises:
        ConfigurationError: naming each variable that is wrong.
    """
    if "KAFKA_BOOTSTRAP_SERVERS" not in os.environ:
        for name, value in local_env().items():
            os.environ.setdefault(name, value)
    settings = read_settings(WorkerSettings) if given is None else read_settings(WorkerSettings, params=given)
    try:
        own = params.model_validate(settings.params)
    except ValidationError as error:
        raise ConfigurationError(f"wrong params: {faults(error, 'PARAMS')}") from None
    changes: dict[str, Any] = {}
    if not settings.queue_id:
        changes["queue_id"] = names.queue_id(target, BY_HAND, datetime.now(UTC), names.short_id())
    if not settings.step:
        changes["step"] = target
    return settings.model_copy(update=changes), own
