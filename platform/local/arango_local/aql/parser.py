"""Parsing of statements. Must never look at the meaning of names; what is not supported is refused by its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from arango_local.aql.expressions import QUERY_KEYWORDS, ExpressionParser
from arango_local.aql.syntax import (
    Bind,
    Collect,
    Expression,
    Filter,
    For,
    Insert,
    Let,
    Limit,
    Modify,
    ObjectLiteral,
    ParsedQuery,
    Query,
    Remove,
    Return,
    Sort,
    Statement,
    Upsert,
    Variable,
)
from arango_local.errors import QUERY_EMPTY, ArangoError, unsupported

_TRAVERSALS: Final = (
    "OUTBOUND",
    "INBOUND",
    "ANY",
    "SHORTEST_PATH",
    "K_PATHS",
    "K_SHORTEST_PATHS",
    "ALL_SHORTEST_PATHS",
)
_LAST: Final = (Return, Insert, Modify, Remove, Upsert)


def parse(text: str) -> ParsedQuery:
    """Parses a query.

    Raises:
        ArangoError: 1502 for an empty query, 1501 for one outside the grammar, 9 for what only a real server has.
    """
    parser = _Parser(text)
    if parser.at_end:
        raise ArangoError(400, QUERY_EMPTY, "query is empty")
    statements = parser.query()
    if not parser.at_end:
        parser.refuse()
    return ParsedQuery(statements, frozenset(parser.binds), frozenset(parser.attribute_binds))


class _Parser(ExpressionParser):
    def query(self) -> Query:
        if self.accept("WITH"):
            self._declared_collections()
        statements: list[Statement] = []
        while self.current.kind == "keyword":
            if self.current.value == "WINDOW":
                raise unsupported("the AQL statement WINDOW")
            if self.current.value not in QUERY_KEYWORDS:
                break
            if statements and isinstance(statements[-1], Return):
                self.refuse()
            statements.extend(self._statement(str(self.advance().value)))
        if not statements or not isinstance(statements[-1], _LAST):
            self.refuse(", expecting RETURN or a data-modification statement")
        return tuple(statements)

    def _declared_collections(self) -> None:
        self._collection()
        while self.accept(",") or self.current.kind in ("identifier", "bind"):
            self._collection()

    def _statement(self, keyword: str) -> list[Statement]:
        if keyword == "LET":
            return [Let(name, value) for name, value in self._assignments()]
        parsers: dict[str, Callable[[], Statement]] = {
            "FOR": self._for,
            "FILTER": lambda: Filter(self.expression()),
            "SORT": self._sort,
            "LIMIT": lambda: Limit(*self.limits()),
            "COLLECT": self._collect,
            "RETURN": lambda: Return(distinct=self.accept("DISTINCT"), value=self.expression()),
            "INSERT": lambda: Insert(self.expression(no_in=True), self._target(), self._options()),
            "UPDATE": lambda: self._modify("update"),
            "REPLACE": lambda: self._modify("replace"),
            "REMOVE": lambda: Remove(self.expression(no_in=True), self._target(), self._options()),
            "UPSERT": self._upsert,
        }
        return [parsers[keyword]()]

    def _for(self) -> Statement:
        variable = self.identifier()
        if self.at(","):
            raise unsupported("graph traversal (FOR vertex, edge IN ..)")
        self.expect("IN")
        if self.current.value in _TRAVERSALS and self.current.kind == "keyword":
            raise unsupported(f"graph traversal ({self.current.value})")
        source = self.expression()
        if self.current.value in _TRAVERSALS and self.current.kind == "keyword":
            raise unsupported(f"graph traversal ({self.current.value})")
        if self.at_word("SEARCH"):
            raise unsupported("the AQL operation SEARCH")
        options = self._options()
        if isinstance(options, ObjectLiteral) and "forceIndexHint" in str(options):
            raise unsupported("the option forceIndexHint of FOR")
        return For(variable, source)

    def _sort(self) -> Statement:
        criteria = []
        while True:
            expression = self.expression()
            descending = self.accept("DESC")
            if not descending:
                self.accept("ASC")
            criteria.append((expression, descending))
            if not self.accept(","):
                return Sort(tuple(criteria))

    def _assignments(self) -> list[tuple[str, Expression]]:
        assigned = []
        while True:
            name = self.identifier()
            self.expect("=")
            assigned.append((name, self.expression()))
            if not self.accept(","):
                return assigned

    def _collect(self) -> Statement:
        groups = self._assignments() if self.current.kind == "identifier" else []
        aggregates = self._assignments() if self.accept("AGGREGATE") else []
        count = into = projection = keep = None
        if self.accept("WITH"):
            self._word("COUNT")
            self.expect("INTO")
            count = self.identifier()
        elif self.accept("INTO"):
            into = self.identifier()
            projection = self.expression() if self.accept("=") else None
            keep = self._keep()
        self._options()
        return Collect(tuple(groups), tuple(aggregates), count, into, projection, keep)

    def _keep(self) -> tuple[str, ...] | None:
        if not self.at_word("KEEP"):
            return None
        self.advance()
        names = [self.identifier()]
        while self.accept(","):
            names.append(self.identifier())
        return tuple(names)

    def _word(self, word: str) -> None:
        if not self.at_word(word):
            self.refuse(f", expecting {word}")
        self.advance()

    def _modify(self, operation: Literal["update", "replace"]) -> Statement:
        selector = self.expression(no_in=True)
        patch = self.expression(no_in=True) if self.accept("WITH") else None
        return Modify(operation, selector, patch, self._target(), self._options())

    def _upsert(self) -> Statement:
        if self.at("FILTER"):
            raise unsupported("UPSERT FILTER")
        if not self.at("{"):
            self.refuse(", expecting an object literal as example of UPSERT")
        example = self.object_literal()
        self.expect("INSERT")
        document = self.expression()
        if not self.at("UPDATE") and not self.at("REPLACE"):
            self.refuse(", expecting UPDATE or REPLACE")
        operation: Literal["update", "replace"] = "update" if self.accept("UPDATE") else "replace"
        if operation == "replace":
            self.expect("REPLACE")
        patch = self.expression(no_in=True)
        return Upsert(example, document, operation, patch, self._target(), self._options())

    def _target(self) -> Variable | Bind:
        if not self.accept("IN") and not self.accept("INTO"):
            self.refuse(", expecting IN or INTO")
        return self._collection()

    def _collection(self) -> Variable | Bind:
        if self.current.kind == "bind":
            return self.bind()
        return Variable(self.identifier())

    def _options(self) -> Expression | None:
        if not self.at_word("OPTIONS"):
            return None
        self.advance()
        return self.bind() if self.current.kind == "bind" else self.object_literal()
