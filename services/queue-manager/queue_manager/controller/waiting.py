"""Why a workflow waits: said in the workflow itself, so that nobody has to search a log for it."""

import structlog

from queue_manager.controller.reign import Reign
from queue_manager.launcher.interface import LauncherError
from queue_manager.model import Reason
from queue_manager.store.interface import Stale, WorkflowStore
from streamforge_utils.contracts.reasons import REASONS
from streamforge_utils.errors import NotConnected, StreamForgeError

_log = structlog.get_logger(component="controller")


async def note_waiting(store: WorkflowStore, reign: Reign, queue_id: str, error: Exception) -> None:
    """Say in the workflow why it waits, if the store can be told."""
    reason = waiting_reason(error)
    _log.warning("workflow_waits", queue_id=queue_id, code=reason.code, reason=reason.message)
    document = reign.documents.get(queue_id)
    if document is None or document.is_ended or reason.code == "store-unreachable":
        return
    changed = document.copied()
    for step in changed.status.steps.values():
        if step.state in ("pending", "starting") and (step.reason is None or step.reason.code != reason.code):
            step.reason = reason
    if changed == document:
        return
    try:
        reign.documents.put(await store.update(changed))
    except (Stale, StreamForgeError):
        reign.documents.drop(queue_id)


def waiting_reason(error: Exception) -> Reason:
    """Why a workflow waits, when a part did not answer."""
    if isinstance(error, LauncherError):
        code = getattr(error, "code", "launcher-unreachable")
        return Reason(code=code, message=f"{REASONS[code]}: {error}")
    if isinstance(error, NotConnected | TimeoutError):
        code = getattr(error, "code", "broker-unreachable")
        code = code if code in ("store-unreachable", "broker-unreachable") else "broker-unreachable"
        return Reason(code=code, message=f"{REASONS[code]}: {error}")
    code = getattr(error, "code", "unavailable")
    return Reason(code=code if code in REASONS else "unavailable", message=str(error))
