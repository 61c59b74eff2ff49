"""Parsing of expressions: a Pratt parser with the precedence table of ArangoDB's own grammar (`grammar.y`).

Two surprises of that table: `==` binds looser than `IN`, and `IN` looser than `<`. In a data-modification statement the
`IN` after the last operand belongs to the statement; `no_in` says so. Must never look at the meaning of names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NoReturn

from arango_local.aql.lexer import Token, describe, fail, tokenize
from arango_local.aql.syntax import (
    ArrayLiteral,
    Attribute,
    Binary,
    Bind,
    Call,
    Conditional,
    Constant,
    Expansion,
    Expression,
    ObjectLiteral,
    Quantified,
    Query,
    Subquery,
    Unary,
    Variable,
)

_TERNARY: Final = 4
_QUANTIFIED: Final = 24
_UNARY: Final = 32
_BINDING: Final = {
    "?": _TERNARY,
    "OR": 10,
    "AND": 12,
    **dict.fromkeys(("==", "!=", "LIKE", "=~", "!~"), 20),
    **dict.fromkeys(("IN", "NOT"), 22),
    **dict.fromkeys(("<", ">", "<=", ">="), 24),
    "..": 26,
    **dict.fromkeys(("+", "-"), 28),
    **dict.fromkeys(("*", "/", "%"), 30),
}
_QUANTIFIERS: Final = ("ALL", "ANY", "NONE")
_COMPARISONS: Final = ("==", "!=", "<", "<=", ">", ">=", "IN", "NOT")
_CONSTANTS: Final = {"NULL": None, "TRUE": True, "FALSE": False}
QUERY_KEYWORDS: Final = frozenset(
    "FOR LET FILTER SORT LIMIT COLLECT RETURN INSERT UPDATE REPLACE REMOVE UPSERT".split()
)


class ExpressionParser:
    """Walks the tokens of one query."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.binds: set[str] = set()
        self.attribute_binds: set[str] = set()
        self._tokens = tokenize(text)
        self._index = 0

    @property
    def current(self) -> Token:
        """The token that comes next."""
        return self._tokens[self._index]

    @property
    def at_end(self) -> bool:
        """Nothing comes any more."""
        return self.current.kind == "end"

    @property
    def following(self) -> Token:
        """The token behind the next one."""
        return self._tokens[min(self._index + 1, len(self._tokens) - 1)]

    def query(self) -> Query:
        """Parses a query in parentheses; the statement parser does it."""
        raise NotImplementedError

    def advance(self) -> Token:
        """Returns the next token and goes behind it."""
        token = self.current
        self._index += 1
        return token

    def at(self, symbol: str) -> bool:
        """Says whether the next token is this keyword or operator."""
        return self.current.kind in ("keyword", "operator") and self.current.value == symbol

    def at_word(self, word: str) -> bool:
        """Says whether the next token is an identifier that only here has a meaning, such as OPTIONS."""
        return self.current.kind == "identifier" and self.current.value.upper() == word

    def accept(self, symbol: str) -> bool:
        """Goes behind this keyword or operator if it comes next."""
        if self.at(symbol):
            self._index += 1
            return True
        return False

    def expect(self, symbol: str) -> None:
        """Goes behind this keyword or operator.

        Raises:
            ArangoError: 1501 when something else comes.
        """
        if not self.accept(symbol):
            self.refuse(f", expecting {symbol}")

    def refuse(self, more: str = "") -> NoReturn:
        """Raises the parse error of the next token."""
        fail(self.text, self.current.position, f"unexpected {describe(self.current)}{more}")

    def identifier(self) -> str:
        """Parses a name."""
        if self.current.kind != "identifier":
            self.refuse(", expecting identifier")
        return str(self.advance().value)

    def bind(self) -> Bind:
        """Parses a bind parameter."""
        name = self.advance().value
        self.binds.add(name)
        return Bind(name)

    def expression(self, binding: int = 0, *, no_in: bool = False) -> Expression:
        """Parses an expression whose operators bind tighter than `binding`."""
        left = self._prefix(no_in)
        while True:
            operator = self._infix(binding, no_in)
            if operator is None:
                return left
            left = self._continue(left, operator, no_in)

    def _infix(self, binding: int, no_in: bool) -> str | None:
        token = self.current
        if token.kind not in ("operator", "keyword"):
            return None
        operator = str(token.value)
        if operator in _QUANTIFIERS:
            return operator if self.following.value in _COMPARISONS and binding < _QUANTIFIED else None
        mine = _BINDING.get(operator)
        if mine is None or mine < binding or (mine == binding and operator != "?"):
            return None
        if operator == "NOT" and self.following.value not in ("IN", "LIKE"):
            return None
        return None if no_in and "IN" in (operator, self.following.value if operator == "NOT" else "") else operator

    def _continue(self, left: Expression, operator: str, no_in: bool) -> Expression:
        self.advance()
        if operator in _QUANTIFIERS:
            comparison = str(self.advance().value)
            if comparison == "NOT":
                self.expect("IN")
                comparison = "NOT IN"
            return Quantified(operator, comparison, left, self.expression(_QUANTIFIED, no_in=no_in))
        if operator == "?":
            return self._conditional(left, no_in)
        if operator == "NOT":
            operator = f"NOT {self.advance().value}"
            return self._binary(operator, left, self.expression(_BINDING["NOT"], no_in=no_in))
        return self._binary(operator, left, self.expression(_BINDING[operator], no_in=no_in))

    def _binary(self, operator: str, left: Expression, right: Expression) -> Expression:
        function = {"LIKE": "LIKE", "NOT LIKE": "LIKE", "=~": "REGEX_TEST", "!~": "REGEX_TEST"}.get(operator)
        if function is None:
            return Binary(operator, left, right)
        call = Call(function, (left, right))
        return Unary("!", call) if operator in ("NOT LIKE", "!~") else call

    def _conditional(self, condition: Expression, no_in: bool) -> Expression:
        if self.accept(":"):
            return Conditional(condition, None, self.expression(_TERNARY, no_in=no_in))
        positive = self.expression()
        self.expect(":")
        return Conditional(condition, positive, self.expression(_TERNARY, no_in=no_in))

    def _prefix(self, no_in: bool) -> Expression:
        for symbol in ("!", "NOT", "-", "+"):
            if self.accept(symbol):
                operand = self.expression(_UNARY, no_in=no_in)
                if symbol == "-" and isinstance(operand, Constant) and type(operand.value) in (int, float):
                    return Constant(-operand.value)
                return Unary("!" if symbol == "NOT" else symbol, operand)  # type: ignore[arg-type]
        return self._postfix(self._atom())

    def _atom(self) -> Expression:
        token = self.current
        by_kind: dict[str, Callable[[], Expression]] = {
            "bind": self.bind,
            "constant": self._literal,
            "identifier": self._name,
            "keyword": self._keyword_atom,
        }
        by_operator: dict[str, Callable[[], Expression]] = {
            "(": self._parenthesis,
            "[": self._array,
            "{": self.object_literal,
        }
        parse = by_kind.get(token.kind) or by_operator.get(str(token.value))
        if parse is None:
            self.refuse()
        return parse()

    def _literal(self) -> Expression:
        return Constant(self.advance().value)

    def _array(self) -> Expression:
        self.expect("[")
        return ArrayLiteral(tuple(self._list("]")))

    def _keyword_atom(self) -> Expression:
        token = self.current
        if token.value in _CONSTANTS:
            self.advance()
            return Constant(_CONSTANTS[token.value])
        if token.value == "LIKE" and self.following.value == "(":
            self.advance()
            return self._call("LIKE")
        self.refuse()

    def _name(self) -> Expression:
        name = self.identifier()
        while self.accept("::"):
            name += "::" + self.identifier()
        return self._call(name.upper()) if self.at("(") else Variable(name)

    def _parenthesis(self) -> Expression:
        self.expect("(")
        inner = self._query_or_expression()
        self.expect(")")
        return inner

    def _query_or_expression(self) -> Expression:
        if self.current.kind == "keyword" and self.current.value in QUERY_KEYWORDS:
            return Subquery(self.query())
        return self.expression()

    def _call(self, name: str) -> Expression:
        self.expect("(")
        return Call(name, tuple(self._list(")")))

    def _list(self, end: str) -> list[Expression]:
        items = []
        while not self.accept(end):
            items.append(self._query_or_expression())
            if not self.at(end):
                self.expect(",")
        return items

    def object_literal(self) -> ObjectLiteral:
        """Parses `{..}`."""
        self.expect("{")
        pairs: list[tuple[Expression, Expression]] = []
        while not self.accept("}"):
            pairs.append(self._pair())
            if not self.at("}"):
                self.expect(",")
        return ObjectLiteral(tuple(pairs))

    def _pair(self) -> tuple[Expression, Expression]:
        token = self.current
        name: Expression
        if token.kind == "bind":
            name = self.bind()
        elif token.kind == "identifier" or (token.kind == "constant" and type(token.value) is str):
            self.advance()
            name = Constant(token.value)
            if token.kind == "identifier" and not self.at(":"):
                return name, Variable(token.value)
        elif self.accept("["):
            name = self.expression()
            self.expect("]")
        else:
            self.refuse(", expecting an attribute name")
        self.expect(":")
        return name, self._query_or_expression()

    def _postfix(self, base: Expression) -> Expression:
        while True:
            if self.accept("."):
                base = Attribute(base, self._attribute_name())
            elif self.at("[") and self.following.value == "*" and self.following.kind == "operator":
                base = self._expansion(base)
            elif self.accept("["):
                base = Attribute(base, self.expression())
                self.expect("]")
            else:
                return base

    def _attribute_name(self) -> Expression:
        if self.current.kind == "bind":
            name = self.bind()
            self.attribute_binds.add(name.name)
            return name
        return Constant(self.identifier())

    def _expansion(self, base: Expression) -> Expression:
        self.expect("[")
        depth = 0
        while self.accept("*"):
            depth += 1
        condition = self.expression() if self.accept("FILTER") else None
        limit = self.limits() if self.accept("LIMIT") else None
        projection = self.expression() if self.accept("RETURN") else None
        self.expect("]")
        if projection is None:
            # What follows `[*]` is done to each element.
            element = Variable("CURRENT")
            tail = self._postfix(element)
            projection = None if tail == element else tail
        return Expansion(base, depth, condition, limit, projection)

    def limits(self) -> tuple[Expression, Expression]:
        """Parses what follows LIMIT; returns offset and count."""
        first = self.expression()
        return (first, self.expression()) if self.accept(",") else (Constant(0), first)
