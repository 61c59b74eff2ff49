"""A package's public names are exactly its ``__all__``: what is not in it may change without notice."""

import importlib
import pkgutil
from types import ModuleType

import pytest

import streamforge_utils


def packages() -> list[str]:
    found = pkgutil.walk_packages(streamforge_utils.__path__, "streamforge_utils.")
    return ["streamforge_utils", *(info.name for info in found if info.ispkg)]


def public(module: ModuleType) -> list[str]:
    named = getattr(module, "__all__", ())
    return sorted(
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and (not isinstance(value, ModuleType) or name in named)
    )


@pytest.mark.parametrize("package", packages())
def test_the_public_names_of_a_package_are_its_all(package):
    module = importlib.import_module(package)
    assert sorted(getattr(module, "__all__", ())) == public(module)


def test_every_package_of_the_wheel_is_looked_at():
    assert {"streamforge_utils.pipeline", "streamforge_utils.worker", "streamforge_utils.testing"} <= set(packages())
