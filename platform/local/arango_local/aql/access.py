"""How FOR over a collection finds its rows: by key, by an index, or all of them.

Only narrows: a filter is left out only when the rows found are exactly those it lets through. Must never change a
result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from arango_local.aql.scope import Workspace
from arango_local.aql.syntax import Attribute, Binary, Bind, Constant, Expression, Variable, mentions
from arango_local.collection import Collection
from arango_local.indexes import Index

Path: TypeAlias = tuple[str, ...]
Source: TypeAlias = Callable[[Expression], str]

_MIRRORED: Final = {"==": "==", "<": ">", ">": "<", "<=": ">=", ">=": "<="}
_KEY: Final = ("_key",)


@dataclass(frozen=True)
class Condition:
    """A filter `path operator value`; `place` is its place among the filters."""

    operator: str
    value: Expression
    place: int


@dataclass(frozen=True)
class AccessPath:
    """How rows are found.

    Attributes:
        rows: The source of an iterator of rows.
        covered: The places of the filters that need not be looked at again.
        in_order: The rows come in the order that the SORT wants.
    """

    rows: str
    covered: frozenset[int]
    in_order: bool


class Chooser:
    """Chooses the access path of one FOR."""

    def __init__(self, workspace: Workspace, collection: Collection, variable: str, source: Source) -> None:
        self._workspace = workspace
        self._collection = collection
        self._variable = variable
        self._source = source

    def choose(
        self,
        filters: Sequence[Expression],
        criteria: Sequence[tuple[Expression, bool]],
        attribute_binds: dict[str, Any],
    ) -> AccessPath | None:
        """Returns the best path; None when all rows have to be looked at."""
        conditions = self._conditions(filters, attribute_binds)
        paths = [(_path(each, self._variable, attribute_binds), descending) for each, descending in criteria]
        by_key = self._by_key(conditions)
        if by_key is not None:
            return by_key
        candidates = [self._by_index(index, conditions, paths) for index in self._collection.indexes.values()]
        candidates.append(self._by_key_interval(conditions, paths))
        usable = [each for each in candidates if each is not None]
        return max(usable, key=lambda each: each[0])[1] if usable else None

    def _conditions(self, filters: Sequence[Expression], binds: dict[str, Any]) -> dict[Path, list[Condition]]:
        conditions: dict[Path, list[Condition]] = {}
        for place, each in enumerate(filters):
            if not isinstance(each, Binary):
                continue
            sides = [(each.left, each.right, each.operator)]
            if each.operator in _MIRRORED:
                sides.append((each.right, each.left, _MIRRORED[each.operator]))
            for left, right, operator in sides:
                path = _path(left, self._variable, binds)
                if path and operator in (*_MIRRORED, "IN") and not mentions(right, self._variable):
                    conditions.setdefault(path, []).append(Condition(operator, right, place))
                    break
        return conditions

    def _by_key(self, conditions: dict[Path, list[Condition]]) -> AccessPath | None:
        table = self._workspace.constant(self._collection)
        for condition in conditions.get(_KEY, ()):
            if condition.operator == "==":
                rows = f"X.by_keys({table}, [{self._source(condition.value)}])"
                return AccessPath(rows, frozenset({condition.place}), in_order=False)
            if condition.operator == "IN":
                rows = f"X.by_keys({table}, {self._source(condition.value)})"
                return AccessPath(rows, frozenset({condition.place}), in_order=False)
        for condition in conditions.get(("_id",), ()):
            if condition.operator == "==":
                rows = f"X.by_id({table}, {self._source(condition.value)})"
                return AccessPath(rows, frozenset({condition.place}), in_order=False)
        return None

    def _by_key_interval(
        self, conditions: dict[Path, list[Condition]], order: Sequence[tuple[Path | None, bool]]
    ) -> tuple[tuple[int, int, bool], AccessPath] | None:
        low, high = _ends(conditions.get(_KEY, ()))
        in_order = len(order) == 1 and order[0][0] == _KEY
        if not low and not high and not in_order:
            return None
        ends = (self._source(end.value) if end else "None" for end in (low, high))
        descending = in_order and order[0][1]
        rows = f"X.key_interval({self._workspace.constant(self._collection)}, {', '.join(ends)}, {descending})"
        score = (0, bool(low) + bool(high), in_order)
        return score, AccessPath(rows, frozenset(), in_order)

    def _by_index(
        self, index: Index, conditions: dict[Path, list[Condition]], order: Sequence[tuple[Path | None, bool]]
    ) -> tuple[tuple[int, int, bool], AccessPath] | None:
        equals: list[Condition] = []
        for path in index.paths:
            found = next((each for each in conditions.get(path, ()) if each.operator == "=="), None)
            if found is None:
                break
            equals.append(found)
        rest = conditions.get(index.paths[len(equals)], []) if len(equals) < len(index.paths) else []
        low, high = _ends(rest)
        choices = None if low or high or index.sparse else next((each for each in rest if each.operator == "IN"), None)
        in_order = not index.sparse and choices is None and _in_index_order(index, len(equals), order)
        if not equals and not low and not high and choices is None and not in_order:
            return None
        used = [each for each in (*equals, low, high, choices) if each is not None]
        covered = frozenset() if index.sparse else frozenset(each.place for each in used)
        rows = self._index_rows(index, equals, (low, high, choices), in_order and order[0][1])
        score = (len(equals) + (choices is not None), bool(low) + bool(high), in_order)
        return score, AccessPath(rows, covered, in_order)

    def _index_rows(
        self,
        index: Index,
        equals: list[Condition],
        rest: tuple[Condition | None, Condition | None, Condition | None],
        descending: bool,
    ) -> str:
        low, high, choices = rest
        table, name = self._workspace.constant(self._collection), self._workspace.constant(index)
        values = "[" + ", ".join(self._source(each.value) for each in equals) + "]"
        if choices is not None:
            return f"X.by_index_any({table}, {name}, {values}, {self._source(choices.value)})"
        bounds = ", ".join(
            "None" if end is None else f"Bound({self._source(end.value)}, {'=' in end.operator})" for end in (low, high)
        )
        return f"X.by_index({table}, {name}, {values}, ends=({bounds}), descending={descending})"


def _ends(conditions: Sequence[Condition]) -> tuple[Condition | None, Condition | None]:
    low = next((each for each in conditions if each.operator in (">", ">=")), None)
    high = next((each for each in conditions if each.operator in ("<", "<=")), None)
    return low, high


def _in_index_order(index: Index, bound: int, order: Sequence[tuple[Path | None, bool]]) -> bool:
    """Says whether the index gives the wanted order.

    Criteria on fields bound to one value do not matter; the others must be the next fields, then perhaps `_key`, and
    all must have one direction.
    """
    constant = set(index.paths[:bound])
    wanted = [(path, descending) for path, descending in order if path not in constant]
    if not wanted or len({descending for _, descending in order}) != 1:
        return False
    following = [*index.paths[bound:], _KEY]
    named = [path for path, _ in wanted]
    if named == list(index.paths[bound : bound + len(named)]):
        return True
    return named == following


def _path(expression: Expression, variable: str, binds: dict[str, Any]) -> Path | None:
    if isinstance(expression, Variable):
        return () if expression.name == variable else None
    if not isinstance(expression, Attribute):
        return None
    base = _path(expression.base, variable, binds)
    name = expression.name.value if isinstance(expression.name, Constant) else None
    if isinstance(expression.name, Bind):
        name = binds.get(expression.name.name)
    if base is None or name is None:
        return None
    names = name if type(name) is list else [name]
    return (*base, *names) if all(type(each) is str for each in names) else None
