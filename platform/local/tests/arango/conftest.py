"""An engine of its own for a test, and a way to run AQL on it."""

from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest

from arango_local.cursors import QueryRequest, QueryResult
from arango_local.engine import Engine
from arango_local.values import dump

Aql = Callable[..., list[Any]]


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = Engine(tmp_path_factory.mktemp("arango") / "data", user="tester", password="secret")
    yield engine
    engine.close()


@pytest.fixture
def database(engine: Engine) -> Iterator[str]:
    """A database that the test has for itself."""
    engine.catalog.create_database("test")
    yield "test"
    engine.catalog.drop_database("test")


@pytest.fixture
def query(engine: Engine, database: str) -> Callable[..., QueryResult]:
    """Runs a query. A bind `@@c` is given as `at_c`."""

    def run(text: str, /, *, full_count: bool = False, **binds: Any) -> QueryResult:
        named = {name.replace("at_", "@"): value for name, value in binds.items()}
        return engine.queries.run(QueryRequest(database, "tester", text, named, full_count=full_count))

    return run


@pytest.fixture
def aql(query: Callable[..., QueryResult]) -> Aql:
    """Runs a query; returns its rows as a client gets them."""

    def run(text: str, **binds: Any) -> list[Any]:
        rows: list[Any] = orjson.loads(dump(query(text, **binds).rows))
        return rows

    return run
