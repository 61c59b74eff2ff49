"""Expressions -> Python source. Evaluation order and laziness are AQL's: AND, OR and ?: evaluate what they need.

Must never write statements; a subquery is handed to the `block` that the compiler gives.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from arango_local.aql.functions import FUNCTIONS, Function
from arango_local.aql.operators import COMPARISONS
from arango_local.aql.scope import Lines, Scope, Slot, Workspace
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
from arango_local.errors import QUERY_ARGUMENT_NUMBER, QUERY_FUNCTION_UNKNOWN, ArangoError

SubqueryCompiler = Callable[[Query, Scope, Lines], str]
_COUNTING: Final = ("LENGTH", "COUNT", "COLLECTION_COUNT")
_FAST_COMPARISONS: Final = {
    "<": "lt({0}, {1})",
    ">": "lt({1}, {0})",
    "<=": "(not lt({1}, {0}))",
    ">=": "(not lt({0}, {1}))",
}


class Translator:
    """Writes the Python source of expressions; definitions of subqueries go to `lines`, before their use."""

    def __init__(self, workspace: Workspace, block: SubqueryCompiler) -> None:
        self._workspace = workspace
        self._block = block

    def value(self, expression: Expression, scope: Scope, lines: Lines) -> str:
        """Returns source that computes the value."""
        return self._WRITERS[type(expression)](self, expression, scope, lines)

    def truth(self, expression: Expression, scope: Scope, lines: Lines) -> str:
        """Returns source whose Python truth is the AQL truth of the value."""
        if isinstance(expression, Binary) and expression.operator in ("AND", "OR"):
            left, right = (self.truth(part, scope, lines) for part in (expression.left, expression.right))
            return f"({left} {expression.operator.lower()} {right})"
        source = self.value(expression, scope, lines)
        return source if _is_bool(expression) else f"truthy({source})"

    def _constant(self, expression: Constant, _scope: Scope, _lines: Lines) -> str:
        if type(expression.value) is float and not math.isfinite(expression.value):
            return "None"
        return repr(expression.value)

    def _bind(self, expression: Bind, _scope: Scope, _lines: Lines) -> str:
        if expression.name.startswith("@"):
            return self._collection_value(expression)
        return f"B[{expression.name!r}]"

    def _variable(self, expression: Variable, scope: Scope, _lines: Lines) -> str:
        slot = scope.slots.get(expression.name)
        return slot.name if slot else self._collection_value(expression)

    def _collection_value(self, reference: Variable | Bind) -> str:
        return f"X.all_documents({self._workspace.constant(self._workspace.read(reference))})"

    def _attribute(self, expression: Attribute, scope: Scope, lines: Lines) -> str:
        base, name = expression.base, expression.name
        if isinstance(base, Variable) and isinstance(name, Constant) and type(name.value) is str:
            slot = scope.slots.get(base.name)
            if slot and slot.is_document:
                return f"{slot.name}.get({name.value!r})"
        return f"access({self.value(base, scope, lines)}, {self.value(name, scope, lines)})"

    def _array(self, expression: ArrayLiteral, scope: Scope, lines: Lines) -> str:
        return "[" + ", ".join(self.value(item, scope, lines) for item in expression.items) + "]"

    def _object(self, expression: ObjectLiteral, scope: Scope, lines: Lines) -> str:
        pairs = []
        for name, value in expression.pairs:
            plain = isinstance(name, Constant) and type(name.value) is str
            key = self.value(name, scope, lines)
            pairs.append(f"{key if plain else f'to_string({key})'}: {self.value(value, scope, lines)}")
        return "{" + ", ".join(pairs) + "}"

    def _unary(self, expression: Unary, scope: Scope, lines: Lines) -> str:
        if expression.operator == "!":
            return f"(not {self.truth(expression.operand, scope, lines)})"
        source = self.value(expression.operand, scope, lines)
        return f"to_number({source})" if expression.operator == "+" else f"arithmetic(X, '-', 0, {source})"

    def _binary(self, expression: Binary, scope: Scope, lines: Lines) -> str:
        operator = expression.operator
        left, right = (self.value(part, scope, lines) for part in (expression.left, expression.right))
        if operator in ("AND", "OR"):
            return f"{'both' if operator == 'AND' else 'either'}({left}, lambda: {right})"
        if operator == "..":
            return f"interval({left}, {right})"
        if operator in ("==", "!="):
            return _equality(expression, left, right)
        if operator in _FAST_COMPARISONS:
            return _FAST_COMPARISONS[operator].format(left, right)
        if operator in COMPARISONS:
            return f"compare({operator!r}, {left}, {right})"
        return f"arithmetic(X, {operator!r}, {left}, {right})"

    def _quantified(self, expression: Quantified, scope: Scope, lines: Lines) -> str:
        left, right = (self.value(part, scope, lines) for part in (expression.left, expression.right))
        return f"quantified({expression.quantifier!r}, {expression.operator!r}, {left}, {right})"

    def _conditional(self, expression: Conditional, scope: Scope, lines: Lines) -> str:
        negative = self.value(expression.negative, scope, lines)
        if expression.positive is None:
            return f"either({self.value(expression.condition, scope, lines)}, lambda: {negative})"
        condition = self.truth(expression.condition, scope, lines)
        return f"({self.value(expression.positive, scope, lines)} if {condition} else {negative})"

    def _subquery(self, expression: Subquery, scope: Scope, lines: Lines) -> str:
        name = self._block(expression.query, scope, lines)
        return f"list({name}({', '.join(scope.parameters)}))"

    def _expansion(self, expression: Expansion, scope: Scope, lines: Lines) -> str:
        element = self._workspace.fresh("e")
        inner = scope.with_slot("CURRENT", Slot(element), parameter=True)
        source = f"flattened({self.value(expression.base, scope, lines)}, {expression.depth})"
        if expression.condition is not None:
            source = f"[{element} for {element} in {source} if {self.truth(expression.condition, inner, lines)}]"
        if expression.limit is not None:
            offset, count = (self.value(part, scope, lines) for part in expression.limit)
            source = f"sliced({source}, *X.limit({offset}, {count}))"
        if expression.projection is None:
            return source
        return f"[{self.value(expression.projection, inner, lines)} for {element} in {source}]"

    def _call(self, expression: Call, scope: Scope, lines: Lines) -> str:
        name, arguments = expression.name, expression.arguments
        if name in _COUNTING and len(arguments) == 1 and self._is_collection(arguments[0], scope):
            collection = self._workspace.read(arguments[0])  # type: ignore[arg-type]  # _is_collection has looked
            return f"{self._workspace.constant(collection)}.count(X.connection)"
        sources = [self.value(argument, scope, lines) for argument in arguments]
        if name == "DOCUMENT" and 1 <= len(sources) <= 2:
            return f"X.document({', '.join(sources)})"
        function = FUNCTIONS.get(name)
        if function is None:
            raise ArangoError(
                400, QUERY_FUNCTION_UNKNOWN, f"AQL: usage of unknown function '{name}()' (not in arango-local)"
            )
        _check_arguments(function, len(sources))
        return f"{self._workspace.constant(function)}.call({', '.join(['X', *sources])})"

    def _is_collection(self, expression: Expression, scope: Scope) -> bool:
        if isinstance(expression, Variable):
            return expression.name not in scope.slots
        return isinstance(expression, Bind) and expression.name.startswith("@")

    _WRITERS: Final[dict[type, Callable[..., str]]] = {
        Constant: _constant,
        Bind: _bind,
        Variable: _variable,
        Attribute: _attribute,
        ArrayLiteral: _array,
        ObjectLiteral: _object,
        Unary: _unary,
        Binary: _binary,
        Quantified: _quantified,
        Conditional: _conditional,
        Subquery: _subquery,
        Expansion: _expansion,
        Call: _call,
    }


def sliced(values: list[Any], first: float, last: float) -> list[Any]:
    """Returns the elements that `[* LIMIT ..]` lets through."""
    return values[int(first) :] if last == math.inf else values[int(first) : int(last)]


def _is_bool(expression: Expression) -> bool:
    if isinstance(expression, Unary):
        return expression.operator == "!"
    return isinstance(expression, Quantified) or (isinstance(expression, Binary) and expression.operator in COMPARISONS)


def _equality(expression: Binary, left: str, right: str) -> str:
    negated = expression.operator == "!="
    for part in (expression.left, expression.right):
        # Python's == is AQL's for a string and for null; a number would also equal a bool.
        if isinstance(part, Constant) and part.value is None:
            return f"({left} is {right})" if not negated else f"({left} is not {right})"
        if isinstance(part, Constant) and type(part.value) is str:
            return f"({left} {expression.operator} {right})"
    return f"(not eq({left}, {right}))" if negated else f"eq({left}, {right})"


def _check_arguments(function: Function, count: int) -> None:
    if not function.least <= count <= function.most:
        most = "" if function.most == math.inf else f" and at most {int(function.most)}"
        raise ArangoError(
            400,
            QUERY_ARGUMENT_NUMBER,
            f"AQL: invalid number of arguments for function '{function.name}()', expected number of arguments: "
            f"minimum: {function.least}{most}, got {count}",
        )
