"""A real broker, as the wheel's own clients reach it."""

import pytest

from streamforge_utils.kafka.admin import KafkaAdmin
from streamforge_utils.settings import KafkaSettings


@pytest.fixture
def settings(kafka):
    return KafkaSettings(bootstrap_servers=kafka.bootstrap_servers)


@pytest.fixture
async def admin(settings):
    admin = KafkaAdmin(settings)
    yield admin
    await admin.close()
