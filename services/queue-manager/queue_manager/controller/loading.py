"""All workflows that are under way; at the first look of a reign they are read in a few requests, not one by one."""

from collections.abc import Sequence

from queue_manager.controller.reign import Reign
from queue_manager.store.interface import OpenWorkflow, WorkflowStore

AT_ONCE = 200


async def under_way(store: WorkflowStore, reign: Reign) -> Sequence[OpenWorkflow]:
    """Which they are; those of the first look are in the reign then, and are looked at. Raises as the store."""
    workflows = await store.open_workflows()
    for first in range(0, 0 if reign.is_loaded else len(workflows), AT_ONCE):
        wanted = [workflow.queue_id for workflow in workflows[first : first + AT_ONCE]]
        for document in await store.get_many(wanted):
            if document.queue_id not in reign.documents:  # what is there was read or written later
                reign.documents.put(document)
                reign.documents.rest(document.queue_id)
            reign.placed.add(document.queue_id)
            reign.work.add(document.queue_id)
    return workflows
