"""The table of AQL functions, and what a wrong argument does: null and a warning. Must never hold a function."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NoReturn, Protocol, TypeVar

from arango_local.aql.operators import Warnings, plain_number
from arango_local.errors import QUERY_ARGUMENT_TYPE
from arango_local.values import is_array

Implementation = TypeVar("Implementation", bound=Callable[..., Any])


class Caller(Warnings, Protocol):
    """What a function may know of the query that calls it."""

    database: str
    user: str

    def check(self) -> None:
        """Raises when the query has to end."""


class InvalidArgumentError(Exception):
    """An argument has the wrong type or value."""


@dataclass(frozen=True)
class Function:
    """A function of AQL; `least` and `most` count its arguments."""

    name: str
    implementation: Callable[..., Any]
    least: int
    most: float
    knows_caller: bool

    def call(self, caller: Caller, *arguments: Any) -> Any:
        """Computes the function; null with a warning when an argument is wrong."""
        try:
            result = self.implementation(caller, *arguments) if self.knows_caller else self.implementation(*arguments)
        except InvalidArgumentError:
            caller.warn(QUERY_ARGUMENT_TYPE, f"invalid argument type in call to function '{self.name}()'")
            return None
        except (OverflowError, RecursionError):
            return None
        return plain_number(result) if type(result) is float or type(result) is int else result


FUNCTIONS: Final[dict[str, Function]] = {}


def function(*names: str, knows_caller: bool = False) -> Callable[[Implementation], Implementation]:
    """Puts an implementation into the table; its parameters give the number of arguments."""

    def register(implementation: Implementation) -> Implementation:
        parameters = list(inspect.signature(implementation).parameters.values())[int(knows_caller) :]
        variadic = any(each.kind is each.VAR_POSITIONAL for each in parameters)
        plain = [each for each in parameters if each.kind is not each.VAR_POSITIONAL]
        least = sum(each.default is each.empty for each in plain)
        for name in names:
            FUNCTIONS[name] = Function(name, implementation, least, math.inf if variadic else len(plain), knows_caller)
        return implementation

    return register


def invalid() -> NoReturn:
    """Says that an argument is wrong."""
    raise InvalidArgumentError


def array(value: Any) -> Any:
    """Returns an argument that must be an array."""
    return value if is_array(value) else invalid()


def mapping(value: Any) -> dict[str, Any]:
    """Returns an argument that must be an object."""
    return value if type(value) is dict else invalid()


def number(value: Any) -> int | float:
    """Returns an argument that must be a number."""
    if type(value) is int or type(value) is float:
        return value
    invalid()
