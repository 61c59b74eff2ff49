"""A step's params against its target's JSON Schema: faults, defaults, and what a request may not carry.

Details never show a given value: it may be a secret in the wrong place. Where an address is given, whatever the param
is called, files are read only below DATA_ROOTS and addresses that only mean something inside a host or cloud are
refused (https://cheatsheetseries.owasp.org/cheatsheets/Server_Side_Request_Forgery_Prevention_Cheat_Sheet.html). A name
is not looked up here: what it means to the worker is the worker's to check when it connects.
"""

import difflib
import ipaddress
import os
import re
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

_RULES = {
    "type": "must be of the type {}",
    "enum": "must be one of {}",
    "const": "must be {}",
    "pattern": "must match {}",
    "minimum": "must be >= {}",
    "maximum": "must be <= {}",
    "exclusiveMinimum": "must be > {}",
    "exclusiveMaximum": "must be < {}",
    "multipleOf": "must be a multiple of {}",
    "minLength": "must have at least {} characters",
    "maxLength": "must have at most {} characters",
    "minItems": "must have at least {} items",
    "maxItems": "must have at most {} items",
    "format": "must be a valid {}",
}
_WILDCARD = re.compile(r"[*?\[]")
_REMOTE = frozenset({"http", "https", "ws", "wss", "ftp", "ftps"})
_METADATA_NAMES = frozenset({"metadata", "metadata.google.internal", "instance-data", "instance-data.ec2.internal"})
_METADATA_ADDRESSES = frozenset(
    ipaddress.ip_address(text) for text in ("169.254.169.254", "100.100.100.200", "192.0.0.192", "fd00:ec2::254")
)


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong at a place of a request; ``pointer`` is an RFC 6901 JSON pointer."""

    pointer: str
    detail: str


PathFault = tuple[list[str | int], str]
"""A place inside of params, and what is wrong there."""


def pointer(*parts: str | int) -> str:
    """The JSON pointer of a path (https://www.rfc-editor.org/rfc/rfc6901)."""
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in parts)


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """The detail of a name that nobody knows, with the nearest one that is known."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f"unknown {what}; did you mean {near[0]!r}?"
    return f"unknown {what}; known: {', '.join(names[:20]) or 'none'}"


class ParamsSchema:
    """A JSON Schema of params, compiled once.

    Raises:
        SchemaError: it is not a JSON Schema.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        Draft202012Validator.check_schema(schema)
        self._schema = schema
        self._validator = Draft202012Validator(schema)

    def resolve(self, params: Mapping[str, Any]) -> tuple[dict[str, Any], list[PathFault]]:
        """The params with defaults filled in, and every fault as (path, detail)."""
        given = dict(params)
        faults: list[PathFault] = []
        for name, rule in self._properties(self._schema).items():
            if rule.get("writeOnly") is True and given.pop(name, None) is not None:
                faults.append(([name], "is a secret: it is taken from the target's secrets, never from a request"))
        whole = self._with_defaults(self._schema, given)
        for error in self._validator.iter_errors(whole):
            faults += [fault for fault in _explained(error) if fault[0] not in [path for path, _ in faults]]
        return whole, faults

    def _resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        reference = schema.get("$ref", "")
        if not reference.startswith("#/$defs/"):
            return schema
        definition: Mapping[str, Any] = self._schema.get("$defs", {}).get(reference.removeprefix("#/$defs/"), {})
        return definition

    def _properties(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        properties: Mapping[str, Any] = self._resolved(schema).get("properties", {})
        return properties

    def _with_defaults(self, schema: Mapping[str, Any], value: Mapping[str, Any]) -> dict[str, Any]:
        filled = dict(value)
        for name, rule in self._properties(schema).items():
            if name not in filled and "default" in rule:
                filled[name] = rule["default"]
            elif isinstance(filled.get(name), dict):
                filled[name] = self._with_defaults(rule, filled[name])
        return filled


def _explained(error: ValidationError) -> Iterator[PathFault]:
    path = list(error.absolute_path)
    rule: Any = error.validator_value
    schema: Any = error.schema
    given: Any = error.instance
    if error.validator == "required":
        yield from (([*path, name], "is required") for name in rule if name not in given)
    elif error.validator == "additionalProperties" and rule is False:
        known = schema.get("properties", {})
        yield from (([*path, name], unknown("param", name, known)) for name in given if name not in known)
    elif error.validator in ("anyOf", "oneOf") and error.context:
        yield (
            path,
            "fits none of the allowed forms: "
            + " or ".join(dict.fromkeys(detail for cause in error.context for _, detail in _explained(cause))),
        )
    else:
        yield path, _RULES.get(str(error.validator), f"breaks the rule {error.validator}: {{}}").format(rule)


def address_faults(params: Any, roots: Sequence[Path]) -> Iterator[PathFault]:
    """Every address in params that may not be read, as (path, detail)."""
    if isinstance(params, dict):
        children: Iterable[tuple[str | int, Any]] = params.items()
    elif isinstance(params, list):
        children = enumerate(params)
    else:
        if isinstance(params, str) and (detail := _address_fault(params, roots)):
            yield [], detail
        return
    for name, child in children:
        for path, detail in address_faults(child, roots):
            yield [name, *path], detail


def _address_fault(text: str, roots: Sequence[Path]) -> str | None:
    # what a URL parser would strip or a shell would see differently must not hide a scheme
    if any(character < " " or character == "\x7f" for character in text):
        return "contains control characters"
    try:
        parts = urlsplit(text.strip())
    except ValueError:
        return "is not a valid URL"
    if parts.scheme == "file":
        return _file_fault(parts, roots)
    return _remote_fault(parts) if parts.scheme in _REMOTE else None


def _file_fault(parts: SplitResult, roots: Sequence[Path]) -> str | None:
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        return "a file is named by its whole path: file:///path"
    paths = (parts.path, unquote(parts.path))  # whichever of the two the worker will read
    if any(".." in path.split("/") or "\0" in path for path in paths):
        return "a file's path may not contain '..' or NUL"
    for path in paths:
        # links are followed as far as the path is spelt out; what a pattern matches the worker checks again
        spelt = _WILDCARD.split(path, maxsplit=1)
        real = Path(os.path.realpath(path if len(spelt) == 1 else os.path.dirname(spelt[0])))
        if not any(real.is_relative_to(os.path.realpath(root)) for root in roots):
            return f"files are read only below {', '.join(map(str, roots)) or 'no folder'} (DATA_ROOTS)"
    return None


def _remote_fault(parts: SplitResult) -> str | None:
    if parts.username is not None or parts.password is not None:
        return "a URL may not carry a user or password"
    try:
        host, _ = (parts.hostname or "").rstrip(".").lower(), parts.port
    except ValueError:
        return "is not a valid URL: its port is no port"
    if not host:
        return "is not a valid URL: it names no host"
    address = _literal_address(host)
    if host in _METADATA_NAMES or address in _METADATA_ADDRESSES:
        return "is the address of a cloud's metadata: refused"
    if address is not None and (address.is_link_local or address.is_unspecified or address.is_multicast):
        return "is a link-local, unspecified or multicast address: refused"
    return None


def _literal_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a host is written as, None for a name; an IPv4 address inside an IPv6 one counts."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        try:
            return ipaddress.IPv4Address(socket.inet_aton(host))  # also 2852039166 and 0xA9FEA9FE, as connect() does
        except (OSError, UnicodeError):
            return None
    return address if address.version == 4 else address.ipv4_mapped or address.sixtofour or address
