"""Every AQL text of the queue-manager. Values are bound, never formatted in; lists go by keyset, never by offset."""

from typing import Final

PAGE: Final = """
FOR w IN workflows
    FILTER (@state == null OR w.state == @state)
       AND (@symbol == null OR w.symbol == @symbol)
       AND (@type == null OR w.type == @type)
       AND (@target == null OR @target IN w.targets)
       AND (@since == null OR w.created_at >= @since)
       AND (@until == null OR w.created_at < @until)
       AND (@q == null OR CONTAINS(w._key, @q))
       AND (@after_at == null OR w.created_at < @after_at OR (w.created_at == @after_at AND w._key < @after_key))
    SORT w.created_at DESC, w._key DESC
    LIMIT @limit
    RETURN {
        queue_id: w._key, state: w.state, is_waiting: w.is_waiting, created_at: w.created_at, symbol: w.symbol,
        type: w.type, template: w.template, targets: w.targets, time_range: w.spec.time_range,
        collection: w.spec.collection, reason: w.status.reason, attempt: w.status.attempt,
        started_at: w.status.started_at, ended_at: w.status.ended_at
    }
"""

COUNTS: Final = """
FOR w IN workflows
    COLLECT state = w.state WITH COUNT INTO number
    RETURN {state: state, number: number}
"""

PENDING: Final = """
FOR w IN workflows
    FILTER w.state == "pending"
    LIMIT @most
    COLLECT WITH COUNT INTO number
    RETURN number
"""

POSITION: Final = """
FOR w IN workflows
    FILTER w.is_waiting == true
       AND (w.created_at < @created_at OR (w.created_at == @created_at AND w._key < @queue_id))
    COLLECT WITH COUNT INTO number
    RETURN number
"""

OPEN: Final = """
FOR w IN workflows
    FILTER w.is_open == true AND w.is_waiting == false
    RETURN {queue_id: w._key, rev: w._rev}
"""

WAITING: Final = """
FOR w IN workflows
    FILTER w.is_waiting == true
    SORT w.created_at, w._key
    LIMIT @limit
    RETURN w._key
"""

BY_IDS: Final = """
FOR w IN workflows
    FILTER w._key IN @queue_ids
    RETURN w
"""

KNOWN: Final = """
FOR w IN workflows
    FILTER w._key IN @queue_ids
    RETURN w._key
"""

BY_REQUEST: Final = """
FOR w IN workflows
    FILTER w.idempotency_key == @idempotency_key
    LIMIT 1
    RETURN w
"""

APPEND_HISTORY: Final = """
FOR entry IN @entries
    INSERT entry INTO workflow_events OPTIONS {overwriteMode: "ignore"}
"""

HISTORY: Final = """
FOR e IN workflow_events
    FILTER e.queue_id == @queue_id
       AND (e.partition > @partition OR (e.partition == @partition AND e.offset > @offset))
    SORT e.partition, e.offset
    LIMIT @limit
    RETURN e
"""
