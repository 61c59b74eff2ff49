"""Type checks and casts."""

from __future__ import annotations

from typing import Any

from arango_local import values
from arango_local.aql.functions.registry import function

function("TO_BOOL")(values.truthy)
function("TO_NUMBER")(values.to_number)
function("TO_STRING")(values.to_string)
function("TO_ARRAY", "TO_LIST")(values.to_array)
function("TYPENAME")(values.type_name)
function("IS_NUMBER")(values.is_number)
function("IS_ARRAY", "IS_LIST")(values.is_array)


@function("IS_NULL")
def is_null(value: Any) -> bool:
    """IS_NULL(value)."""
    return value is None


@function("IS_BOOL")
def is_bool(value: Any) -> bool:
    """IS_BOOL(value)."""
    return type(value) is bool


@function("IS_STRING")
def is_string(value: Any) -> bool:
    """IS_STRING(value)."""
    return type(value) is str


@function("IS_OBJECT", "IS_DOCUMENT")
def is_object(value: Any) -> bool:
    """IS_OBJECT(value)."""
    return type(value) is dict


@function("NOT_NULL")
def not_null(*alternatives: Any) -> Any:
    """NOT_NULL(a, b, ..): the first that is not null."""
    return next((each for each in alternatives if each is not None), None)


@function("FIRST_LIST")
def first_list(*alternatives: Any) -> Any:
    """FIRST_LIST(a, b, ..): the first that is an array."""
    return next((each for each in alternatives if values.is_array(each)), None)


@function("FIRST_DOCUMENT")
def first_document(*alternatives: Any) -> Any:
    """FIRST_DOCUMENT(a, b, ..): the first that is an object."""
    return next((each for each in alternatives if type(each) is dict), None)
