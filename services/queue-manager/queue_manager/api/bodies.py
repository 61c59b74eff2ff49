"""Request bodies as JSON, strictly: what two readers could understand differently is refused.

Refused are: names that occur twice, NaN and infinite numbers, whole numbers that are not exact in a double
(https://www.rfc-editor.org/rfc/rfc7493, I-JSON), halves of surrogate pairs, and nesting deeper than ``MAX_DEPTH``.
"""

import json
import math
from typing import Any

from starlette.requests import Request

from queue_manager.problems import Problem
from streamforge_utils import codec
from streamforge_utils.errors import PermanentError

MAX_DEPTH = 32
_EXACT = 2**53


async def read_json(request: Request, *, default: Any = None) -> Any:
    """The body's value; ``default`` when there is no body and a default was given.

    Raises:
        Problem: ``malformed`` with what is wrong, ``too-large``.
    """
    body = await request.body()
    if not body.strip() and default is not None:
        return default
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise Problem("malformed", f"the body must be application/json, not {kind[:60]!r}")
    return parse(body)


def parse(body: bytes) -> Any:
    """The value of a JSON text.

    Raises:
        Problem: ``malformed``.
    """
    try:
        value = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_float=_number,
            parse_int=_whole,
        )
        codec.encode(value)  # finds halves of surrogate pairs
    except (ValueError, PermanentError) as error:
        raise Problem("malformed", f"the body is not valid JSON: {error}") from None
    except RecursionError:
        raise _too_deep() from None
    if _is_deeper(value, MAX_DEPTH):
        raise _too_deep()
    return value


def _too_deep() -> Problem:
    return Problem("malformed", f"the body is nested deeper than {MAX_DEPTH} levels")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice[:80]!r} occurs twice in an object")
    return made


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


def _whole(text: str) -> int:
    # compared by length first: turning very long digits into a number takes quadratic time
    if len(text) > 17 or abs(number := int(text)) > _EXACT:
        raise ValueError("a whole number is larger than 2^53: not every reader keeps it exact")
    return number


def _is_deeper(value: Any, depth: int) -> bool:
    level = [value]
    for _ in range(depth):
        level = [
            child
            for item in level
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return False
    return any(isinstance(item, dict | list) for item in level)
