"""The real worker on a real broker: its records, its counters, its end; killed in the middle it goes on exactly."""

import asyncio
import os
import sys

import pytest

from streamforge_utils import codec
from streamforge_utils.contracts import names
from streamforge_utils.kafka.admin import KafkaAdmin, TopicSpec
from streamforge_utils.kafka.stream import StreamReader
from streamforge_utils.settings import KafkaSettings

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


@pytest.fixture
def settings(kafka):
    return KafkaSettings(bootstrap_servers=kafka.bootstrap_servers)


@pytest.fixture
async def topic(settings):
    name = f"candles-{names.short_id()}"
    admin = KafkaAdmin(settings)
    await admin.create_topics([TopicSpec(name)])
    yield name
    await admin.close()


@pytest.fixture
def start(kafka, topic):
    """Starts the worker as the node does: by its environment alone."""

    async def worker(**params):
        env = {
            "PATH": os.environ["PATH"],
            "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "QUEUE_ID": f"wf-{topic}",
            "SYMBOL": "BTCUSDT",
            "TYPE": "api_candles_1m",
            "TIME_RANGE": "2025-08-01:2025-08-02",
            "STREAMS": codec.encode({"writes": {"data": topic}}).decode(),
            "PARAMS": codec.encode(params).decode(),
            "METRICS_PORT": "0",
        }
        command = (sys.executable, "-m", "loader_candles")
        return await asyncio.create_subprocess_exec(*command, env=env, stderr=asyncio.subprocess.PIPE)

    return worker


@pytest.fixture
def stored(settings, topic):
    """All committed records of the topic, in order."""

    async def read(count):
        reader, found = StreamReader(settings), []
        await reader.start({(topic, 0): -1})
        try:
            async with asyncio.timeout(60):
                while len(found) < count:
                    fetched = await reader.fetch(max_records=5000, max_bytes=10**7, linger_s=0.05)
                    found += fetched.get((topic, 0), [])
        finally:
            await reader.close()
        return [codec.decode(record.value) for record in found]

    return read


async def ended(worker):
    async with asyncio.timeout(60):
        _, log = await worker.communicate()
    return worker.returncode, log.decode()


async def test_all_rows_of_a_file_arrive_once_in_order(start, stored, write, rows, record):
    content = rows(1440)
    code, log = await ended(await start(source=f"file://{write('BTCUSDT-1m-2025-08-01.csv.gz', content)}"))
    assert code == 0, log
    assert await stored(1440) == [record(row) for row in content]


@pytest.mark.parametrize("kills", [1, 3])
async def test_killed_in_the_middle_it_goes_on_exactly_there(kills, start, stored, write, rows, record):
    content = rows(1440)
    source = f"file://{write('BTCUSDT-1m-2025-08-01.csv.gz', content)}"
    for kill in range(1, kills + 1):
        worker = await start(source=source, rate=1000)
        already = len(await stored(200 * kill))
        worker.kill()
        await ended(worker)
        assert worker.returncode == -9
        assert already < 1440
    code, log = await ended(await start(source=source))
    assert code == 0, log
    assert await stored(1440) == [record(row) for row in content]


async def test_a_bad_file_ends_it_with_78_and_says_where(start, stored, write, rows, record):
    content = rows(20)
    content[11][4] = "x"
    path = write("BTCUSDT-1m-2025-08-01.csv", content)
    code, log = await ended(await start(source=f"file://{path}"))
    assert code == 78, log
    assert f"{path}, line 12: close is no number: 'x'" in log
    assert await stored(11) == [record(row) for row in content[:11]]


async def test_params_that_are_wrong_end_it_with_78(start):
    code, log = await ended(await start(source="file:///data/../etc/passwd"))
    assert code == 78
    assert "source must not go up" in log
