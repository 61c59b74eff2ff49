"""JSON as it goes over the wire and into files: orjson, with its errors translated.

No other module of the wheel calls a JSON library.
"""

from typing import Any

import orjson

from streamforge_utils.errors import PermanentError, shown

loads = orjson.loads
"""Raw decoder for the hot path; raises ValueError."""


def encode(value: object) -> bytes:
    """UTF-8 JSON of ``value``.

    Raises:
        PermanentError: a value JSON does not have (code ``not-encodable``).
    """
    try:
        return orjson.dumps(value)
    except TypeError as error:
        raise PermanentError(f"cannot be written as JSON: {error}", code="not-encodable") from error


def decode(data: bytes | str) -> Any:
    """The value of a JSON text.

    Raises:
        PermanentError: not JSON (code ``not-json``); the message shows the start of the text.
    """
    try:
        return orjson.loads(data)
    except ValueError as error:
        raise PermanentError(f"not JSON ({error}): {shown(data[:80])!r}", code="not-json") from error


def canonical(value: object) -> bytes:
    """JSON with sorted keys: equal values give equal bytes, for digests."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
