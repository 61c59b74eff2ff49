"""A client of the real server, and a collection of its own for each test."""

import uuid
from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from streamforge_local.testing import ArangoServer
from streamforge_utils.arango import ArangoClient
from streamforge_utils.settings import ArangoSettings


@pytest.fixture
def settings(arango: ArangoServer) -> ArangoSettings:
    return ArangoSettings(url=arango.url, db=arango.database, user=arango.user, password=SecretStr(arango.password))


@pytest.fixture
async def client(settings: ArangoSettings) -> AsyncIterator[ArangoClient]:
    made = ArangoClient(settings)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def collection() -> str:
    return f"things_{uuid.uuid4().hex}"
