"""Syntax tree -> Python source -> a generator function.

A query becomes a chain of generator functions ("stages"), nested so that a subquery sees the variables around it. FOR
is `for`, FILTER is `continue`; SORT, COLLECT and data modification end a stage: it yields what they need, computed
where all variables are at hand, and the variables that live on; the next stage goes through what the runtime
(`execution`) makes of those rows. Must never run a query.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from arango_local.aql.access import AccessPath, Chooser
from arango_local.aql.functions import FUNCTIONS
from arango_local.aql.scope import Lines, Scope, Slot, Workspace
from arango_local.aql.syntax import (
    Attribute,
    Binary,
    Bind,
    Call,
    Collect,
    Constant,
    Expression,
    Filter,
    For,
    Insert,
    Let,
    Limit,
    Modify,
    Query,
    Remove,
    Return,
    Sort,
    Statement,
    Upsert,
    Variable,
    conjuncts,
    mentions,
    reads_only,
)
from arango_local.aql.translation import Translator
from arango_local.collection import HEAD, Collection
from arango_local.errors import QUERY_INVALID_AGGREGATE, QUERY_VARIABLE_REDECLARED, ArangoError

_AGGREGATES: Final = frozenset(
    "MIN MAX SUM AVERAGE AVG STDDEV_POPULATION STDDEV STDDEV_SAMPLE VARIANCE_POPULATION VARIANCE VARIANCE_SAMPLE "
    "UNIQUE SORTED_UNIQUE COUNT_DISTINCT COUNT_UNIQUE".split()
)
_ROW_COUNTS: Final = ("LENGTH", "COUNT")
NOWHERE: Final = Scope({})


class Compiler:
    """What the blocks of one query share."""

    def __init__(self, workspace: Workspace, attribute_binds: dict[str, Any]) -> None:
        self.workspace = workspace
        self.attribute_binds = attribute_binds
        self.translator = Translator(workspace, self.block)

    def block(self, query: Query, scope: Scope, lines: Lines, *, is_top: bool = False) -> str:
        """Writes the stages of a query into `lines`; returns the name of the last one."""
        return _Block(self, scope, lines, is_top=is_top).compile(query)


class _Block:
    """Compiles one query or subquery."""

    def __init__(self, compiler: Compiler, scope: Scope, out: Lines, *, is_top: bool) -> None:
        self._compiler = compiler
        self._workspace = compiler.workspace
        self._translator = compiler.translator
        self._scope = scope
        self._out = out
        self._is_top = is_top
        self._own: dict[str, str] = {}
        self._rest: Query = ()
        self._parameters = ", ".join(scope.parameters)
        self._begin("for _ in (0,):")

    def compile(self, query: Query) -> str:
        """Writes the stages; returns the name of the last one."""
        self._rest = query
        while self._rest:
            statement, self._rest = self._rest[0], self._rest[1:]
            self._WRITERS[type(statement)](self, statement)
        if not isinstance(query[-1], Return):
            self._lines.add("continue")
            self._lines.depth = self._out.depth + 1
            self._lines.add("yield from ()")
        self._end()
        return self._stage

    # -- stages --

    def _begin(self, loop: str) -> None:
        self._stage = self._workspace.fresh("stage")
        self._lines = Lines(self._out.depth)
        self._lines.add(f"def {self._stage}({self._parameters}):", deeper=True)
        self._head: list[str] = []
        self._tail: list[tuple[int, str]] = []
        self._open(loop)

    def _open(self, loop: str) -> None:
        self._lines.add(loop, deeper=True)

    def _end(self) -> None:
        for depth, line in reversed(self._tail):
            self._lines.depth = depth
            self._lines.add(line)
        body = self._lines.text
        pad = " " * (self._out.depth + 1)
        self._out.text.extend([body[0], *(pad + line for line in self._head), *body[1:]])

    def _cut(self, sources: Sequence[str]) -> tuple[str, str]:
        """Ends the stage; returns the call that gives its rows, and the names of the variables that live on."""
        live = "".join(f"{name}, " for name in dict.fromkeys(self._own.values()))
        self._lines.add(f"yield ({''.join(f'{source}, ' for source in sources)}{live})")
        self._end()
        return f"{self._stage}({self._parameters})", live

    def _declare(self, variable: str, name: str, *, is_document: bool = False) -> None:
        if variable in self._scope.slots and variable not in ("OLD", "NEW"):
            message = f"AQL: variable '{variable}' is assigned multiple times"
            raise ArangoError(400, QUERY_VARIABLE_REDECLARED, message)
        self._scope = self._scope.with_slot(variable, Slot(name, is_document))
        self._own[variable] = name

    def _value(self, expression: Expression) -> str:
        return self._translator.value(expression, self._scope, self._lines)

    def _constant_value(self, expression: Expression | None) -> str:
        return "None" if expression is None else self._translator.value(expression, NOWHERE, self._lines)

    # -- reading --

    def _for(self, statement: For) -> None:
        name = self._workspace.fresh("v")
        source = statement.source
        if isinstance(source, Bind) and source.name.startswith("@"):
            self._for_collection(statement.variable, name, self._workspace.read(source))
        elif isinstance(source, Variable) and (statement.is_collection or source.name not in self._scope.slots):
            self._for_collection(statement.variable, name, self._workspace.read(source))
        else:
            self._open(f"for {name} in elements(X, {self._value(source)}):")
            self._declare(statement.variable, name)

    def _for_collection(self, variable: str, name: str, collection: Collection) -> None:
        filters: list[Expression] = []
        rest = self._rest
        while rest and isinstance(rest[0], Filter):
            filters.extend(conjuncts(rest[0].condition))
            rest = rest[1:]
        criteria = rest[0].criteria if rest and isinstance(rest[0], Sort) else ()
        chooser = Chooser(self._workspace, collection, variable, self._value)
        path = chooser.choose(filters, criteria, self._compiler.attribute_binds)
        if path is None:
            path = AccessPath(f"X.scan({self._workspace.constant(collection)})", frozenset(), in_order=False)
        left = tuple(Filter(each) for place, each in enumerate(filters) if place not in path.covered)
        self._rest = left + (rest[1:] if path.in_order and criteria else rest)
        self._open(f"for {name} in {self._rows(variable, collection, path.rows)}:")
        self._declare(variable, name, is_document=True)

    def _rows(self, variable: str, collection: Collection, rows: str) -> str:
        table = self._workspace.constant(collection)
        statements = self._rest[1:] if self._rest and isinstance(self._rest[0], Limit) else self._rest
        if self._is_top and statements == (Return(Variable(variable), distinct=False),):
            return f"X.fragments({table}, {rows})"
        if reads_only(self._rest, variable, HEAD):
            return f"X.heads({table}, {rows})"
        # Rows that are only counted need not be parsed either.
        return f"X.documents({table}, {rows})" if mentions(self._rest, variable) else rows

    def _filter(self, statement: Filter) -> None:
        condition = self._translator.truth(statement.condition, self._scope, self._lines)
        self._lines.add(f"if not {condition} and X.drop(): continue")

    def _let(self, statement: Let) -> None:
        name = self._workspace.fresh("v")
        self._lines.add(f"{name} = {self._value(statement.value)}")
        self._declare(statement.variable, name)

    def _limit(self, statement: Limit) -> None:
        counter, first, last = (self._workspace.fresh(stem) for stem in ("n", "first", "last"))
        offset, count = self._constant_value(statement.offset), self._constant_value(statement.count)
        self._head += [
            f"{counter} = 0",
            f"{first}, {last} = X.limit({offset}, {count})",
            f"if {last} <= {first} and not X.counting: return",
        ]
        counted = self._is_top and not any(isinstance(each, Limit) for each in self._rest)
        self._lines.add(f"{counter} += 1")
        if counted:
            self._head.append("X.full_count = 0 if X.counting else None")
            self._lines.add(f"if X.counting: X.full_count = {counter}")
        self._lines.add(f"if {counter} <= {first}: continue")
        goes_on = "if X.counting: continue" if counted else "pass"
        self._open(f"if {counter} > {last}:")
        self._lines.add(goes_on)
        self._lines.add("return")
        self._lines.depth -= 1
        # Without this the row behind the last one would be looked for, perhaps through a whole collection.
        condition = f"{counter} >= {last}" + (" and not X.counting" if counted else "")
        self._tail.append((self._lines.depth, f"if {condition}: return"))

    def _sort(self, statement: Sort) -> None:
        keys = [f"encode({self._value(each)})" for each, _ in statement.criteria]
        names = "".join(f"{self._workspace.fresh('_')}, " for _ in keys)
        directions = tuple(descending for _, descending in statement.criteria)
        rows, live = self._cut(keys)
        self._begin(f"for ({names}{live}) in X.sort({rows}, {directions!r}):")

    def _return(self, statement: Return) -> None:
        if not statement.distinct:
            self._lines.add(f"yield {self._value(statement.value)}")
            return
        seen, value, key = (self._workspace.fresh(stem) for stem in ("seen", "value", "key"))
        self._head.append(f"{seen} = set()")
        self._lines.add(f"{value} = {self._value(statement.value)}")
        self._lines.add(f"{key} = encode({value})")
        self._open(f"if {key} not in {seen}:")
        self._lines.add(f"{seen}.add({key})")
        self._lines.add(f"yield {value}")
        self._lines.depth -= 1

    # -- COLLECT --

    def _collect(self, statement: Collect) -> None:
        groups = "(" + "".join(f"{self._value(each)}, " for _, each in statement.groups) + ")"
        sources = [
            groups,
            *(self._aggregate_source(each) for _, each in statement.aggregates),
            self._taken_along(statement),
        ]
        in_order = not (self._rest and isinstance(self._rest[0], Sort) and _is_sort_null(self._rest[0]))
        rows, _ = self._cut(sources)
        key, members = self._workspace.fresh("key"), self._workspace.fresh("rows")
        self._begin(f"for {key}, {members} in X.group({rows}, grouped={bool(statement.groups)}, in_order={in_order}):")
        slots = {name: slot for name, slot in self._scope.slots.items() if name not in self._own}
        self._scope, self._own = Scope(slots, self._scope.parameters), {}
        for place, (variable, _) in enumerate(statement.groups):
            self._assign(variable, f"{key}[{place}]")
        for place, (variable, aggregate) in enumerate(statement.aggregates, 1):
            self._assign(variable, self._aggregated(aggregate, f"[row[{place}] for row in {members}]"))
        if statement.count is not None:
            self._assign(statement.count, f"len({members})")
        if statement.into is not None:
            self._assign(statement.into, f"[row[{len(sources) - 1}] for row in {members}]")

    def _assign(self, variable: str, source: str) -> None:
        name = self._workspace.fresh("v")
        self._lines.add(f"{name} = {source}")
        self._declare(variable, name)

    def _aggregate_source(self, expression: Expression) -> str:
        known = isinstance(expression, Call) and expression.name in (*_AGGREGATES, *_ROW_COUNTS, "PUSH")
        if not isinstance(expression, Call) or not known or len(expression.arguments) > 1:
            raise ArangoError(400, QUERY_INVALID_AGGREGATE, "AQL: invalid aggregate expression")
        if expression.name in _ROW_COUNTS:
            return "None"
        if not expression.arguments:
            raise ArangoError(
                400, QUERY_INVALID_AGGREGATE, f"AQL: invalid aggregate expression: {expression.name}() of nothing"
            )
        return self._value(expression.arguments[0])

    def _aggregated(self, expression: Expression, values: str) -> str:
        if not isinstance(expression, Call) or expression.name in _ROW_COUNTS:
            return f"len({values})"
        if expression.name == "PUSH":
            return values
        return f"{self._workspace.constant(FUNCTIONS[expression.name])}.call(X, {values})"

    def _taken_along(self, statement: Collect) -> str:
        if statement.into is None:
            return "None"
        if statement.projection is not None:
            return self._value(statement.projection)
        names = self._own if statement.keep is None else statement.keep
        return "{" + ", ".join(f"{name!r}: {self._value(Variable(name))}" for name in names) + "}"

    # -- data modification --

    def _wants_documents(self) -> bool:
        return mentions(self._rest, "OLD") or mentions(self._rest, "NEW")

    def _insert(self, statement: Insert) -> None:
        document = self._value(statement.document)
        table = self._workspace.constant(self._workspace.write(statement.collection))
        rows, live = self._cut([document])
        want = self._wants_documents()
        self._begin_written(f"X.insert({table}, {rows}, {self._constant_value(statement.options)}, {want})", live)

    def _modify(self, statement: Modify) -> None:
        patch = "None" if statement.patch is None else self._value(statement.patch)
        self._change(statement.operation, self._value(statement.selector), patch, statement)

    def _remove(self, statement: Remove) -> None:
        self._change("remove", self._value(statement.selector), "None", statement)

    def _change(self, operation: str, selector: str, patch: str, statement: Modify | Remove) -> None:
        table = self._workspace.constant(self._workspace.write(statement.collection))
        rows, live = self._cut([selector, patch])
        options, want = self._constant_value(statement.options), self._wants_documents()
        self._begin_written(f"X.modify({table}, {operation!r}, {rows}, options={options}, want={want})", live)

    def _begin_written(self, rows: str, live: str) -> None:
        old, new = self._workspace.fresh("old"), self._workspace.fresh("new")
        self._begin(f"for ({old}, {new}, {live}) in {rows}:")
        self._declare("OLD", old)
        self._declare("NEW", new)

    def _upsert(self, statement: Upsert) -> None:
        rows, live = self._cut([])
        self._begin(f"for ({live}) in list({rows}):" if live else f"for _ in list({rows}):")
        old, new, done = (self._workspace.fresh(stem) for stem in ("old", "new", "done"))
        lookup = self._compiler.block(_lookup(statement), self._scope, self._lines)
        table = self._workspace.constant(self._workspace.write(statement.collection))
        arguments = f"{self._constant_value(statement.options)}, True"
        self._lines.add(f"{old} = X.first({lookup}({self._parameters}))")
        insert_lines = self._value(statement.document)
        self._open(f"if {old} is None:")
        self._lines.add(f"{done} = X.insert({table}, [({insert_lines},)], {arguments})")
        self._lines.depth -= 1
        self._open("else:")
        self._declare("OLD", old)
        patch = self._value(statement.patch)
        options = f"options={self._constant_value(statement.options)}, want=True"
        self._lines.add(f"{done} = X.modify({table}, {statement.operation!r}, [({old}, {patch})], {options})")
        self._lines.depth -= 1
        self._open(f"for _, {new} in {done}:")
        self._declare("NEW", new)

    _WRITERS: Final[dict[type[Statement], Callable[..., None]]] = {
        For: _for,
        Filter: _filter,
        Let: _let,
        Limit: _limit,
        Sort: _sort,
        Return: _return,
        Collect: _collect,
        Insert: _insert,
        Modify: _modify,
        Remove: _remove,
        Upsert: _upsert,
    }


def _lookup(statement: Upsert) -> Query:
    found = Variable("$found")
    filters = [Filter(Binary("==", Attribute(found, name), value)) for name, value in statement.example.pairs]
    return (
        For(found.name, statement.collection, is_collection=True),
        *filters,
        Limit(Constant(0), Constant(1)),
        Return(found, distinct=False),
    )


def _is_sort_null(statement: Sort) -> bool:
    return all(isinstance(each, Constant) for each, _ in statement.criteria)
