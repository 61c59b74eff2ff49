"""Order-preserving byte keys: `encode(a) < encode(b)` exactly when AQL orders a before b.

This is what makes a SQLite BLOB index an AQL index, so the bytes are a storage format: a change needs a new data
directory. Must never depend on anything but the value.

    null    01
    false   02
    true    03
    number  04 + 8 bytes of the sign-flipped double + 2 bytes of what a 64-bit integer has beyond it
    string  05 + UTF-8 (00 as 00 FF) + 00 00
    array   06 + elements, trailing nulls cut + 00
    object  07 + for each name in order whose value is not null: 02 + inverted name + FF + value; then 00

A compound key is the concatenation. Every first byte is below `AFTER`, so `key + AFTER` follows all keys that begin
with `key`.
"""

from __future__ import annotations

import struct
from typing import Any, Final

AFTER: Final = b"\xff"

_pack_double = struct.Struct(">d").pack
_as_integer = struct.Struct(">Q")
_SIGN: Final = 1 << 63
_ALL: Final = (1 << 64) - 1
_EXACT: Final = 1 << 53
_NO_RESIDUE: Final = b"\x80\x00"
# UTF-8 has no byte above F4, so FF stays free to end a name.
_INVERT: Final = bytes(max(0, 254 - byte) for byte in range(256))


def encode(value: Any) -> bytes:
    """Returns the key of a JSON value (ranges and tuples count as arrays)."""
    if value is None:
        return b"\x01"
    kind = type(value)
    if type(value) is str:
        return b"\x05" + value.encode().replace(b"\0", b"\0\xff") + b"\0\0"
    if kind is bool:
        return b"\x03" if value else b"\x02"
    if kind is int or kind is float:
        return _encode_number(value)
    if kind is dict:
        return _encode_object(value)
    elements = list(value)
    while elements and elements[-1] is None:
        elements.pop()
    return b"\x06" + b"".join(map(encode, elements)) + b"\0"


def _encode_number(number: int | float) -> bytes:
    double = float(number) or 0.0  # -0.0 equals 0.0
    (bits,) = _as_integer.unpack(_pack_double(double))
    head = b"\x04" + _as_integer.pack(bits ^ _ALL if bits & _SIGN else bits | _SIGN)
    if type(number) is int and not -_EXACT <= number <= _EXACT:
        # Doubles near 2**64 are 2,048 apart, so the rest fits two bytes.
        return head + (0x8000 + number - int(double)).to_bytes(2, "big")
    return head + _NO_RESIDUE


def _encode_object(value: dict[str, Any]) -> bytes:
    # Objects are compared by the sorted union of their names, and a name that is missing counts as null. So the object
    # whose
    # first name comes later is the smaller one: names are inverted, and FF ends them to put a longer name behind its
    # prefix.
    parts = [
        b"\x02" + name.encode().translate(_INVERT) + b"\xff" + encode(value[name])
        for name in sorted(value)
        if value[name] is not None
    ]
    return b"\x07" + b"".join(parts) + b"\0"
