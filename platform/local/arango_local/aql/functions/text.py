"""String functions. Positions count code points; case mapping is Python's (the real server uses ICU)."""

from __future__ import annotations

import hashlib
import re
import uuid as uuids
from typing import Any, Final

import orjson

from arango_local.aql.functions.registry import array, function, invalid, number
from arango_local.values import dump, is_array, is_number, to_array, to_string, truthy

_LIKE_PART: Final = re.compile(r"\\(.)|(%)|(_)|(.)", re.DOTALL)


def _texts(parts: tuple[Any, ...]) -> list[Any]:
    return list(parts[0]) if len(parts) == 1 and is_array(parts[0]) else list(parts)


@function("CONCAT")
def concat(*parts: Any) -> str:
    """CONCAT(a, b, ..): null is nothing; one array argument stands for its elements."""
    return "".join(map(to_string, _texts(parts)))


@function("CONCAT_SEPARATOR")
def concat_separator(separator: Any, *parts: Any) -> str:
    """CONCAT_SEPARATOR(separator, a, b, ..): nulls are left out."""
    return to_string(separator).join(to_string(part) for part in _texts(parts) if part is not None)


@function("CONTAINS")
def contains(text: Any, wanted: Any, as_index: Any = False) -> Any:
    """CONTAINS(text, wanted, returnIndex)."""
    position = to_string(text).find(to_string(wanted))
    return position if truthy(as_index) else position >= 0


@function("FIND_FIRST")
def find_first(text: Any, wanted: Any, start: Any = 0, end: Any = None) -> int:
    """FIND_FIRST(text, wanted, start, end): both ends inside; -1 when not found."""
    last = None if end is None else int(number(end)) + 1
    return to_string(text).find(to_string(wanted), int(number(start)), last)


@function("FIND_LAST")
def find_last(text: Any, wanted: Any, start: Any = 0, end: Any = None) -> int:
    """FIND_LAST(text, wanted, start, end): both ends inside; -1 when not found."""
    last = None if end is None else int(number(end)) + 1
    return to_string(text).rfind(to_string(wanted), int(number(start)), last)


@function("LOWER")
def lower(text: Any) -> str:
    """LOWER(text)."""
    return to_string(text).lower()


@function("UPPER")
def upper(text: Any) -> str:
    """UPPER(text)."""
    return to_string(text).upper()


@function("LEFT")
def left(text: Any, count: Any) -> str:
    """LEFT(text, n)."""
    return to_string(text)[: max(0, int(number(count)))]


@function("RIGHT")
def right(text: Any, count: Any) -> str:
    """RIGHT(text, n)."""
    wanted = max(0, int(number(count)))
    return to_string(text)[-wanted:] if wanted else ""


@function("LENGTH", "COUNT")
def length(value: Any) -> int:
    """LENGTH(value): elements, attributes, characters; of a number its digits, of null 0, of a bool 0 or 1."""
    if value is None or type(value) is bool:
        return int(bool(value))
    return len(to_string(value)) if is_number(value) else len(value)


@function("CHAR_LENGTH")
def char_length(value: Any) -> int:
    """CHAR_LENGTH(value): the characters of the value as a string."""
    return len(to_string(value))


def like_pattern(pattern: str) -> str:
    """Returns the regular expression of a LIKE pattern: `%` any text, `_` one character, backslash escapes."""

    def part(found: re.Match[str]) -> str:
        if found[2]:
            return ".*"
        return "." if found[3] else re.escape(found[1] or found[4])

    return _LIKE_PART.sub(part, pattern)


@function("LIKE")
def like(text: Any, pattern: Any, ignore_case: Any = False) -> bool:
    """LIKE(text, pattern, caseInsensitive)."""
    flags = re.DOTALL | (re.IGNORECASE if truthy(ignore_case) else re.RegexFlag(0))
    return re.fullmatch(like_pattern(to_string(pattern)), to_string(text), flags) is not None


def _trimmed(text: Any, kind: Any, side: int) -> str:
    characters = None
    if type(kind) is str:
        characters = kind
    elif kind is not None:
        side = int(number(kind))
    value = to_string(text)
    if side != 2:
        value = value.lstrip(characters)
    return value if side == 1 else value.rstrip(characters)


@function("TRIM")
def trim(text: Any, kind: Any = None) -> str:
    """TRIM(text, chars or 0 both | 1 left | 2 right)."""
    return _trimmed(text, kind, 0)


@function("LTRIM")
def ltrim(text: Any, characters: Any = None) -> str:
    """LTRIM(text, chars)."""
    return _trimmed(text, None if characters is None else to_string(characters), 1)


@function("RTRIM")
def rtrim(text: Any, characters: Any = None) -> str:
    """RTRIM(text, chars)."""
    return _trimmed(text, None if characters is None else to_string(characters), 2)


@function("SPLIT")
def split(text: Any, separator: Any = None, limit: Any = None) -> list[str]:
    """SPLIT(text, separator or separators, limit): at most `limit` parts, the rest is dropped."""
    value = to_string(text)
    if separator is None:
        return [value]
    separators = [to_string(each) for each in to_array(separator)]
    if "" in separators:
        parts = list(value)
    else:
        parts = re.split("|".join(map(re.escape, separators)), value)
    return parts if limit is None else parts[: int(number(limit))]


@function("SUBSTITUTE")
def substitute(text: Any, search: Any, replacement: Any = "", limit: Any = None) -> str:
    """SUBSTITUTE(text, search, replace, limit), or SUBSTITUTE(text, {search: replace, ..}, limit)."""
    if type(search) is dict:
        pairs = {name: to_string(value) for name, value in search.items()}
        limit = replacement if is_number(replacement) else None
    else:
        wanted = [to_string(each) for each in to_array(search)]
        given = (
            [to_string(each) for each in replacement]
            if is_array(replacement)
            else [to_string(replacement)] * len(wanted)
        )
        pairs = dict(zip(wanted, given + [""] * len(wanted), strict=False))
    if not pairs or "" in pairs:
        return to_string(text)
    expression = "|".join(re.escape(name) for name in pairs)
    count = 0 if limit is None else int(number(limit))
    if limit is not None and count <= 0:
        return to_string(text)
    return re.sub(expression, lambda found: pairs[found[0]], to_string(text), count=count)


@function("SUBSTRING")
def substring(text: Any, offset: Any, count: Any = None) -> str:
    """SUBSTRING(text, offset, length): a negative offset counts from the end."""
    value, start = to_string(text), int(number(offset))
    rest = value[max(0, len(value) + start) if start < 0 else start :]
    return rest if count is None else rest[: max(0, int(number(count)))]


@function("STARTS_WITH")
def starts_with(text: Any, prefix: Any) -> bool:
    """STARTS_WITH(text, prefix or prefixes)."""
    if type(text) is not str:
        invalid()
    return any(text.startswith(to_string(each)) for each in to_array(prefix))


def _compiled(pattern: Any, ignore_case: Any) -> re.Pattern[str]:
    try:
        return re.compile(to_string(pattern), re.IGNORECASE if truthy(ignore_case) else 0)
    except re.error:
        invalid()


@function("REGEX_TEST")
def regex_test(text: Any, pattern: Any, ignore_case: Any = False) -> bool:
    """REGEX_TEST(text, pattern, caseInsensitive)."""
    return _compiled(pattern, ignore_case).search(to_string(text)) is not None


@function("REGEX_MATCHES")
def regex_matches(text: Any, pattern: Any, ignore_case: Any = False) -> list[str] | None:
    """REGEX_MATCHES(text, pattern, caseInsensitive): the match and its groups, or null."""
    found = _compiled(pattern, ignore_case).search(to_string(text))
    return None if found is None else [found[0], *(group or "" for group in found.groups())]


@function("REGEX_REPLACE")
def regex_replace(text: Any, pattern: Any, replacement: Any, ignore_case: Any = False) -> str:
    """REGEX_REPLACE(text, pattern, replacement, caseInsensitive)."""
    return _compiled(pattern, ignore_case).sub(lambda _: to_string(replacement), to_string(text))


@function("REGEX_SPLIT")
def regex_split(text: Any, pattern: Any, ignore_case: Any = False, limit: Any = None) -> list[str]:
    """REGEX_SPLIT(text, pattern, caseInsensitive, limit)."""
    parts = [part or "" for part in _compiled(pattern, ignore_case).split(to_string(text))]
    return parts if limit is None else parts[: int(number(limit))]


@function("JSON_STRINGIFY")
def json_stringify(value: Any) -> str:
    """JSON_STRINGIFY(value)."""
    return dump(value).decode()


@function("JSON_PARSE")
def json_parse(text: Any) -> Any:
    """JSON_PARSE(text)."""
    try:
        return orjson.loads(text)
    except (orjson.JSONDecodeError, TypeError):
        invalid()


def _hash(name: str) -> None:
    function(name)(lambda text: hashlib.new(name.lower(), to_string(text).encode(), usedforsecurity=False).hexdigest())


for _name in ("MD5", "SHA1", "SHA256", "SHA512"):
    _hash(_name)


@function("UUID")
def uuid() -> str:
    """UUID(): a random one."""
    return str(uuids.uuid4())


@function("REVERSE")
def reverse(value: Any) -> Any:
    """REVERSE(text or array)."""
    return value[::-1] if type(value) is str else list(array(value))[::-1]


@function("REPEAT")
def repeat(text: Any, count: Any, separator: Any = "") -> str:
    """REPEAT(text, count, separator)."""
    times = int(number(count))
    if not 0 <= times <= 1_000_000:
        invalid()
    return to_string(separator).join([to_string(text)] * times)
