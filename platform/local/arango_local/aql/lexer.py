"""Tokens of AQL (docs: AQL / Fundamentals / Syntax; the real lexer is `tokens.ll`). Must never know the grammar."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, Literal, NoReturn, TypeAlias

from arango_local.errors import QUERY_PARSE, ArangoError

Kind: TypeAlias = Literal["constant", "identifier", "keyword", "bind", "operator", "end"]

KEYWORDS: Final = frozenset(
    "AGGREGATE ALL AND ANY ASC COLLECT DESC DISTINCT FALSE FILTER FOR GRAPH IN INBOUND INSERT INTO K_PATHS "
    "K_SHORTEST_PATHS LET LIKE LIMIT NONE NOT NULL OR OUTBOUND REMOVE REPLACE RETURN SHORTEST_PATH "
    "ALL_SHORTEST_PATHS SORT TRUE UPDATE UPSERT WINDOW WITH".split()
)
_TOKEN: Final = re.compile(
    r"""(?P<space>[ \t\r\n]+|//[^\n]*|/\*.*?\*/)
    |(?P<number>0[bB][01]+|0[xX][0-9a-fA-F]+|(?:(?:0|[1-9]\d*)(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?)
    |(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<quoted>`(?:[^`\\]|\\.)*`|\u00b4(?:[^\u00b4\\]|\\.)*\u00b4)
    |(?P<bind>@@?[a-zA-Z0-9_]+)
    |(?P<word>\$?[a-zA-Z][_a-zA-Z0-9]*|_+[a-zA-Z]+[_a-zA-Z0-9]*)
    |(?P<operator>\.\.|=~|!~|==|!=|<=|>=|&&|\|\||::|[-+*/%<>=!?:,(){}\[\].])""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE: Final = re.compile(r"((?:\\u[0-9a-fA-F]{4})+)|\\(.)", re.DOTALL)
_ESCAPED: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_SPELLINGS: Final = {"&&": "AND", "||": "OR"}
_NAMES: Final = {"=": "assignment", "": "end of query string"}


@dataclass(frozen=True)
class Token:
    """A token; `value` is the literal's value, the upper-case keyword, the name, or the operator."""

    kind: Kind
    value: Any
    position: int


def tokenize(text: str) -> list[Token]:
    """Returns the tokens of a query, an end token last.

    Raises:
        ArangoError: 1501 at a character that begins no token.
    """
    tokens: list[Token] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            fail(text, position, f"unexpected character {text[position]!r}")
        if match.lastgroup != "space":
            tokens.append(_token(match))
        position = match.end()
    tokens.append(Token("end", "", len(text)))
    return tokens


def fail(text: str, position: int, what: str) -> NoReturn:
    """Raises the parse error of a place in a query, worded as the real server words it."""
    line = text.count("\n", 0, position) + 1
    column = position - (text.rfind("\n", 0, position) + 1) + 1
    near = text[position : position + 30]
    raise ArangoError(400, QUERY_PARSE, f"AQL: syntax error, {what} near '{near}' at position {line}:{column}")


def describe(token: Token) -> str:
    """Returns how a parse error names a token."""
    if token.kind == "identifier":
        return "identifier"
    if token.kind == "keyword":
        return f"{token.value} declaration"
    return _NAMES.get(token.value, f"'{token.value}'") if isinstance(token.value, str) else f"'{token.value}'"


def _token(match: re.Match[str]) -> Token:
    text, position, group = match.group(), match.start(), match.lastgroup
    if group == "number":
        return Token("constant", _number(text), position)
    if group == "string":
        return Token("constant", _unescape(text[1:-1], match), position)
    if group == "quoted":
        return Token("identifier", _unescape(text[1:-1], match), position)
    if group == "bind":
        return Token("bind", text[1:], position)
    upper = _SPELLINGS.get(text, text.upper())
    if upper in KEYWORDS:
        return Token("keyword", upper, position)
    return Token("identifier" if group == "word" else "operator", text, position)


def _number(text: str) -> int | float:
    if text[:2].lower() in ("0x", "0b"):
        return int(text, 0)
    if set(text) & set(".eE"):
        return float(text)
    number = int(text)
    return number if number < 1 << 64 else float(number)


def _unescape(text: str, match: re.Match[str]) -> str:
    def replaced(found: re.Match[str]) -> str:
        if found[1]:
            units = bytes.fromhex(found[1].replace("\\u", ""))
            try:
                return units.decode("utf-16-be")
            except UnicodeDecodeError:
                fail(match.string, match.start(), "unexpected half of a surrogate pair in a string")
        return _ESCAPED.get(found[2], found[2])

    return _ESCAPE.sub(replaced, text) if "\\" in text else text
