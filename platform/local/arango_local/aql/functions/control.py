"""Functions about the query itself."""

from __future__ import annotations

import time
from typing import Any

from arango_local.aql.functions.registry import Caller, function, number
from arango_local.errors import QUERY_FAIL_CALLED, ArangoError
from arango_local.values import eq, lt, to_string, truthy

_ASSERT_FAILED = 1593
_USER_WARNING = 1594
_NAP_SECONDS = 0.05


@function("NOOPT", "PASSTHRU")
def unchanged(value: Any) -> Any:
    """NOOPT(value)."""
    return value


@function("FAIL")
def fail(message: Any = "") -> None:
    """FAIL(message): ends the query."""
    raise ArangoError(500, QUERY_FAIL_CALLED, f"AQL: FAIL({to_string(message)}) called (while executing)")


@function("ASSERT")
def assure(condition: Any, message: Any) -> bool:
    """ASSERT(condition, message): ends the query unless the condition holds."""
    if not truthy(condition):
        raise ArangoError(400, _ASSERT_FAILED, f"AQL: {to_string(message)} (while executing)")
    return True


@function("WARN", knows_caller=True)
def warn(caller: Caller, condition: Any, message: Any) -> bool:
    """WARN(condition, message): a warning unless the condition holds."""
    if not truthy(condition):
        caller.warn(_USER_WARNING, to_string(message))
    return truthy(condition)


@function("SLEEP", knows_caller=True)
def sleep(caller: Caller, seconds: Any) -> None:
    """SLEEP(seconds)."""
    end = time.monotonic() + number(seconds)
    while (left := end - time.monotonic()) > 0:
        caller.check()
        time.sleep(min(left, _NAP_SECONDS))


@function("CURRENT_USER", knows_caller=True)
def current_user(caller: Caller) -> str:
    """CURRENT_USER()."""
    return caller.user


@function("CURRENT_DATABASE", knows_caller=True)
def current_database(caller: Caller) -> str:
    """CURRENT_DATABASE()."""
    return caller.database


@function("IN_RANGE")
def in_range(value: Any, low: Any, high: Any, include_low: Any, include_high: Any) -> bool:  # noqa: PLR0917 - AQL's order
    """IN_RANGE(value, low, high, includeLow, includeHigh)."""
    above = lt(low, value) or (truthy(include_low) and eq(low, value))
    return above and (lt(value, high) or (truthy(include_high) and eq(value, high)))
