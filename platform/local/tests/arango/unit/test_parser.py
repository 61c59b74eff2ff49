"""Precedence and refusals of the grammar."""

import pytest

from arango_local.aql.parser import parse
from arango_local.aql.syntax import Binary, Conditional, Return, Unary
from arango_local.errors import ArangoError


def expression(text: str) -> object:
    statement = parse(f"RETURN {text}").statements[-1]
    assert isinstance(statement, Return)
    return statement.value


def shape(node: object) -> str:
    if isinstance(node, Binary):
        return f"({shape(node.left)} {node.operator} {shape(node.right)})"
    if isinstance(node, Unary):
        return f"({node.operator}{shape(node.operand)})"
    if isinstance(node, Conditional):
        positive = "" if node.positive is None else shape(node.positive)
        return f"({shape(node.condition)} ? {positive} : {shape(node.negative)})"
    return str(getattr(node, "name", getattr(node, "value", "?")))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a + b * c", "(a + (b * c))"),
        ("a - b - c", "((a - b) - c)"),
        ("a == b IN c", "(a == (b IN c))"),
        ("a IN b < c", "(a IN (b < c))"),
        ("a OR b AND c == d", "(a OR (b AND (c == d)))"),
        ("a || b && c", "(a OR (b AND c))"),
        ("!a == b", "((!a) == b)"),
        ("-a * b", "((-a) * b)"),
        ("a NOT IN b", "(a NOT IN b)"),
        ("a ? b : c ? d : e", "(a ? b : (c ? d : e))"),
        ("a ?: b", "(a ?  : b)"),
        ("1..2 + 3", "(1 .. (2 + 3))"),
        ("(a OR b) AND c", "((a OR b) AND c)"),
    ],
)
def test_precedence_is_that_of_the_real_grammar(text: str, expected: str) -> None:
    assert shape(expression(text)) == expected


def test_in_behind_the_document_of_a_modification_names_the_collection() -> None:
    statements = parse("FOR d IN c UPDATE d WITH {a: d.x IN [1]} IN c").statements
    assert getattr(statements[-1], "collection").name == "c"  # noqa: B009 - the statement's class is not of interest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FOR i = 1 LIMIT 2 RETURN i * 3", "unexpected assignment"),
        ("RETURN 1 +", "unexpected end of query string"),
        ("FOR d IN c", "expecting RETURN"),
        ("RETURN 1 RETURN 2", "unexpected RETURN declaration"),
        ("RETURN {a b}", "unexpected identifier"),
        ("RETURN [1, 2", "expecting ,"),
        ("RETURN §", "unexpected character"),
        ("RETURN '\\ud800'", "surrogate"),
    ],
)
def test_a_wrong_query_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(ArangoError, match="position 1:") as raised:
        parse(text)
    assert message in raised.value.message
    assert (raised.value.status, raised.value.number) == (400, 1501)


@pytest.mark.parametrize("text", ["", "  ", "// nothing", "/* nothing */"])
def test_an_empty_query_is_refused(text: str) -> None:
    with pytest.raises(ArangoError) as raised:
        parse(text)
    assert raised.value.number == 1502


@pytest.mark.parametrize(
    ("text", "construct"),
    [
        ("FOR v IN 1..2 OUTBOUND 'a/b' e RETURN v", "OUTBOUND"),
        ("FOR v, e IN OUTBOUND 'a/b' e RETURN v", "traversal"),
        ("FOR d IN v SEARCH d.a == 1 RETURN d", "SEARCH"),
        ("FOR d IN c WINDOW { preceding: 1 } AGGREGATE a = SUM(d.x) RETURN a", "WINDOW"),
        ("UPSERT FILTER true INSERT {} UPDATE {} IN c", "UPSERT FILTER"),
    ],
)
def test_what_only_a_real_server_has_is_refused_by_its_name(text: str, construct: str) -> None:
    with pytest.raises(ArangoError, match=construct) as raised:
        parse(text)
    assert (raised.value.status, raised.value.number) == (501, 9)


def test_strings_comments_numbers_and_quoted_names() -> None:
    text = "/* c */ {a: 'it\\'s \\u00e9\\ud83d\\ude00', `b c`: 0x1f + 0b11, d: .5, e: 1e3} // end"
    pairs = getattr(expression(text), "pairs")  # noqa: B009
    assert [name.value for name, _ in pairs] == ["a", "b c", "d", "e"]
    assert pairs[0][1].value == "it's é😀"
    assert [pairs[2][1].value, pairs[3][1].value] == [0.5, 1000.0]
