"""The syntax tree of a query. Plain data; must never know how it is parsed or run."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias


@dataclass(frozen=True)
class Constant:
    """A literal."""

    value: Any


@dataclass(frozen=True)
class Bind:
    """`@name`, or `@@name` (then the name begins with `@`)."""

    name: str


@dataclass(frozen=True)
class Variable:
    """A variable, or a collection where no variable has the name."""

    name: str


@dataclass(frozen=True)
class Attribute:
    """`base.name` or `base[name]`."""

    base: Expression
    name: Expression


@dataclass(frozen=True)
class ArrayLiteral:
    """`[a, b]`."""

    items: tuple[Expression, ...]


@dataclass(frozen=True)
class ObjectLiteral:
    """`{name: value}`; a name is an expression too."""

    pairs: tuple[tuple[Expression, Expression], ...]


@dataclass(frozen=True)
class Unary:
    """`!a`, `-a`, `+a`."""

    operator: Literal["!", "-", "+"]
    operand: Expression


@dataclass(frozen=True)
class Binary:
    """Any infix operator; `AND` and `OR` for both spellings."""

    operator: str
    left: Expression
    right: Expression


@dataclass(frozen=True)
class Quantified:
    """`left ALL|ANY|NONE operator right`."""

    quantifier: str
    operator: str
    left: Expression
    right: Expression


@dataclass(frozen=True)
class Conditional:
    """`condition ? positive : negative`; `positive` is None in `condition ?: negative`."""

    condition: Expression
    positive: Expression | None
    negative: Expression


@dataclass(frozen=True)
class Call:
    """`NAME(arguments)`; the name in upper case."""

    name: str
    arguments: tuple[Expression, ...]


@dataclass(frozen=True)
class Expansion:
    """`base[* FILTER .. LIMIT .. RETURN ..]`; `depth` is the number of stars."""

    base: Expression
    depth: int
    condition: Expression | None
    limit: tuple[Expression, Expression] | None
    projection: Expression | None


@dataclass(frozen=True)
class Subquery:
    """A query in parentheses."""

    query: Query


@dataclass(frozen=True)
class For:
    """`FOR variable IN source`; `is_collection`: the source names a collection whatever variables there are."""

    variable: str
    source: Expression
    is_collection: bool = False


@dataclass(frozen=True)
class Filter:
    """`FILTER condition`."""

    condition: Expression


@dataclass(frozen=True)
class Let:
    """`LET variable = value`."""

    variable: str
    value: Expression


@dataclass(frozen=True)
class Sort:
    """`SORT expression [DESC], ..`; pairs of expression and "descending"."""

    criteria: tuple[tuple[Expression, bool], ...]


@dataclass(frozen=True)
class Limit:
    """`LIMIT offset, count`."""

    offset: Expression
    count: Expression


@dataclass(frozen=True)
class Collect:
    """`COLLECT groups AGGREGATE aggregates INTO into [= projection] KEEP keep` or `.. WITH COUNT INTO count`."""

    groups: tuple[tuple[str, Expression], ...]
    aggregates: tuple[tuple[str, Expression], ...]
    count: str | None
    into: str | None
    projection: Expression | None
    keep: tuple[str, ...] | None


@dataclass(frozen=True)
class Return:
    """`RETURN [DISTINCT] value`."""

    value: Expression
    distinct: bool


@dataclass(frozen=True)
class Insert:
    """`INSERT document INTO collection OPTIONS options`."""

    document: Expression
    collection: Variable | Bind
    options: Expression | None


@dataclass(frozen=True)
class Modify:
    """`UPDATE|REPLACE selector [WITH patch] IN collection OPTIONS options`."""

    operation: Literal["update", "replace"]
    selector: Expression
    patch: Expression | None
    collection: Variable | Bind
    options: Expression | None


@dataclass(frozen=True)
class Remove:
    """`REMOVE selector IN collection OPTIONS options`."""

    selector: Expression
    collection: Variable | Bind
    options: Expression | None


@dataclass(frozen=True)
class Upsert:
    """`UPSERT example INSERT document UPDATE|REPLACE patch IN collection OPTIONS options`."""

    example: ObjectLiteral
    document: Expression
    operation: Literal["update", "replace"]
    patch: Expression
    collection: Variable | Bind
    options: Expression | None


Expression: TypeAlias = (
    Constant
    | Bind
    | Variable
    | Attribute
    | ArrayLiteral
    | ObjectLiteral
    | Unary
    | Binary
    | Quantified
    | Conditional
    | Call
    | Expansion
    | Subquery
)
Statement: TypeAlias = For | Filter | Let | Sort | Limit | Collect | Return | Insert | Modify | Remove | Upsert
Query: TypeAlias = tuple[Statement, ...]


@dataclass(frozen=True)
class ParsedQuery:
    """A query, the bind parameters it names, and those of them that name an attribute (`doc.@name`)."""

    statements: Query
    binds: frozenset[str]
    attribute_binds: frozenset[str]


def nodes(tree: Any) -> Iterator[Any]:
    """Yields every node of a tree of statements or expressions."""
    if isinstance(tree, tuple):
        for part in tree:
            yield from nodes(part)
    elif hasattr(tree, "__dataclass_fields__"):
        yield tree
        for field in fields(tree):
            yield from nodes(getattr(tree, field.name))


def mentions(tree: Any, name: str) -> bool:
    """Says whether a variable of that name occurs, also as one that a COLLECT .. INTO takes along."""
    return any((isinstance(node, Variable) and node.name == name) or _takes_all_along(node) for node in nodes(tree))


def _takes_all_along(node: Any) -> bool:
    return isinstance(node, Collect) and node.into is not None and node.projection is None


def reads_only(tree: Any, name: str, attributes: Collection[str]) -> bool:
    """Says whether nothing of that variable occurs but some of these attributes."""
    wanted = tuple(Attribute(Variable(name), Constant(each)) for each in attributes)
    uses = sum(node == Variable(name) for node in nodes(tree))
    return 0 < uses == sum(node in wanted for node in nodes(tree)) and not any(map(_takes_all_along, nodes(tree)))


def conjuncts(condition: Expression) -> list[Expression]:
    """Returns the parts of a condition that AND joins."""
    if isinstance(condition, Binary) and condition.operator == "AND":
        return conjuncts(condition.left) + conjuncts(condition.right)
    return [condition]
