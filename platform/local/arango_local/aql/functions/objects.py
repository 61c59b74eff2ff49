"""Object and document functions. None changes its argument."""

from __future__ import annotations

from typing import Any

from arango_local.aql.functions.registry import array, function, invalid, mapping
from arango_local.values import eq, is_array, to_array, to_string, truthy
from arango_local.values import merge as merged


def _names(names: tuple[Any, ...]) -> list[str]:
    return [to_string(name) for name in (names[0] if len(names) == 1 and is_array(names[0]) else names)]


def _objects(objects: tuple[Any, ...]) -> list[dict[str, Any]]:
    return [mapping(each) for each in (objects[0] if len(objects) == 1 and is_array(objects[0]) else objects)]


@function("ATTRIBUTES", "KEYS")
def attributes(value: Any, without_system: Any = False, in_order: Any = False) -> list[str]:
    """ATTRIBUTES(object, removeSystemAttrs, sort)."""
    names = [name for name in mapping(value) if not (truthy(without_system) and name.startswith("_"))]
    return sorted(names) if truthy(in_order) else names


@function("VALUES")
def attribute_values(value: Any, without_system: Any = False) -> list[Any]:
    """VALUES(object, removeSystemAttrs)."""
    return [part for name, part in mapping(value).items() if not (truthy(without_system) and name.startswith("_"))]


@function("ENTRIES")
def entries(value: Any) -> list[list[Any]]:
    """ENTRIES(object)."""
    return [[name, part] for name, part in mapping(value).items()]


@function("HAS")
def has(value: Any, name: Any) -> bool:
    """HAS(object, name)."""
    return type(value) is dict and to_string(name) in value


@function("KEEP")
def keep(value: Any, *names: Any) -> dict[str, Any]:
    """KEEP(object, name, .. or names)."""
    wanted = _names(names)
    return {name: part for name, part in mapping(value).items() if name in wanted}


@function("UNSET")
def unset(value: Any, *names: Any) -> dict[str, Any]:
    """UNSET(object, name, .. or names)."""
    unwanted = _names(names)
    return {name: part for name, part in mapping(value).items() if name not in unwanted}


@function("KEEP_RECURSIVE")
def keep_recursive(value: Any, *names: Any) -> dict[str, Any]:
    """KEEP_RECURSIVE(object, name, .. or names)."""
    wanted = _names(names)
    return {
        name: keep_recursive(part, wanted) if type(part) is dict else part
        for name, part in mapping(value).items()
        if name in wanted
    }


@function("UNSET_RECURSIVE")
def unset_recursive(value: Any, *names: Any) -> dict[str, Any]:
    """UNSET_RECURSIVE(object, name, .. or names)."""
    unwanted = _names(names)
    return {
        name: unset_recursive(part, unwanted) if type(part) is dict else part
        for name, part in mapping(value).items()
        if name not in unwanted
    }


@function("MERGE")
def merge(*objects: Any) -> dict[str, Any]:
    """MERGE(object, object, .. or objects): later ones win."""
    return {name: part for each in _objects(objects) for name, part in each.items()}


@function("MERGE_RECURSIVE")
def merge_recursive(*objects: Any) -> dict[str, Any]:
    """MERGE_RECURSIVE(object, object, .. or objects)."""
    result: dict[str, Any] = {}
    for each in _objects(objects):
        result = merged(result, each, keep_null=True, merge_objects=True)
    return result


@function("ZIP")
def combine(names: Any, values: Any) -> dict[str, Any]:
    """ZIP(names, values)."""
    if len(array(names)) != len(array(values)):
        invalid()
    return {to_string(name): value for name, value in zip(names, values, strict=True)}


@function("TRANSLATE")
def translate(value: Any, table: Any, default: Any = None) -> Any:
    """TRANSLATE(value, lookup, default): the value itself when neither has it."""
    return mapping(table).get(to_string(value), value if default is None else default)


@function("MATCHES")
def matches(value: Any, examples: Any, as_index: Any = False) -> Any:
    """MATCHES(object, example or examples, returnIndex)."""
    document = mapping(value)
    for place, example in enumerate(to_array([examples] if type(examples) is dict else examples)):
        if all(eq(document.get(name), part) for name, part in mapping(example).items()):
            return place if truthy(as_index) else True
    return -1 if truthy(as_index) else False


@function("VALUE")
def value_at(value: Any, path: Any) -> Any:
    """VALUE(object, path): names and positions."""
    for step in array(path):
        if type(value) is dict and type(step) is str:
            value = value.get(step)
        elif is_array(value) and type(step) is int and -len(value) <= step < len(value):
            value = value[step]
        else:
            return None
    return value


@function("PARSE_IDENTIFIER")
def parse_identifier(value: Any) -> dict[str, str]:
    """PARSE_IDENTIFIER(id or document): collection and key."""
    identifier = value.get("_id") if type(value) is dict else value
    if type(identifier) is not str or identifier.count("/") != 1:
        invalid()
    collection, _, key = identifier.partition("/")
    return {"collection": collection, "key": key}


@function("PARSE_KEY")
def parse_key(value: Any) -> str:
    """PARSE_KEY(id)."""
    return parse_identifier(value)["key"]


@function("PARSE_COLLECTION")
def parse_collection(value: Any) -> str:
    """PARSE_COLLECTION(id)."""
    return parse_identifier(value)["collection"]
