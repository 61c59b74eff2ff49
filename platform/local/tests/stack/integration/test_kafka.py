"""The embedded broker, for real: speed, death and return, log-in, what is told when it cannot start."""

import asyncio
import os
import time

import pytest

from streamforge_local.failures import StackError
from streamforge_local.kafka.broker import Broker
from streamforge_local.kafka.jars import pinned_sums, provision_jars, verify
from streamforge_local.kafka.security import CLIENT
from streamforge_local.ports import free_port
from streamforge_local.stack.parts import KafkaPart
from streamforge_local.stack.process import PartProcess
from streamforge_utils.errors import ConfigurationError
from streamforge_utils.kafka.admin import KafkaAdmin, TopicSpec
from streamforge_utils.settings import KafkaSettings

pytestmark = pytest.mark.integration


def process_of(broker, folder):
    return PartProcess(KafkaPart(broker), log=folder / "kafka.log", mark=str(folder))


@pytest.fixture
def server(tmp_path):
    process = process_of(Broker(tmp_path / "kafka", free_port(), free_port()), tmp_path)
    yield process
    process.close()


@pytest.fixture(scope="module")
def scram_server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scram")
    process = process_of(Broker(folder / "kafka", free_port(), free_port(), "scram"), folder)
    process.start()
    process.wait_ready()
    yield process
    process.close()


def scram_settings(process, **changed):
    env = process.part.environment()
    given = {
        "bootstrap_servers": env["KAFKA_BOOTSTRAP_SERVERS"],
        "user": env["KAFKA_USER"],
        "password": env["KAFKA_PASSWORD"],
        "ca_path": env["KAFKA_CA_PATH"],
    }
    return KafkaSettings(**given | changed)


async def partitions(settings, *topics):
    admin = KafkaAdmin(settings)
    try:
        return await admin.partitions(topics)
    finally:
        await admin.close()


async def create(settings, topic):
    admin = KafkaAdmin(settings)
    try:
        await admin.create_topics([TopicSpec(topic, replication=1)])
    finally:
        await admin.close()


async def test_the_session_broker_has_the_two_topics_and_makes_no_others(kafka):
    settings = KafkaSettings(bootstrap_servers=kafka.bootstrap_servers)
    found = await partitions(settings, "queue-control", "queue-events", "never-made")
    assert found == {"queue-control": 1, "queue-events": 3}


async def test_a_killed_broker_comes_back_with_its_data_on_the_same_port(server):
    server.start()
    server.wait_ready()
    settings = KafkaSettings(bootstrap_servers=server.part.address)
    await create(settings, "kept")
    server.kill()
    assert not server.is_running
    server.start()
    begin = time.monotonic()
    server.wait_ready()
    assert time.monotonic() - begin < 8
    assert await partitions(settings, "kept") == {"kept": 1}


async def test_a_stopped_broker_ends_cleanly_and_starts_again(server):
    server.start()
    server.wait_ready()
    begin = time.monotonic()
    server.stop()
    assert time.monotonic() - begin < 10
    assert (server.part.broker.data / "log" / ".kafka_cleanshutdown").exists()
    server.start()
    server.wait_ready()


def test_a_broker_outlives_the_thread_that_started_it_but_not_its_parent(server):
    asyncio.run(asyncio.to_thread(server.start))
    server.wait_ready()
    assert server.is_running


def test_a_jar_that_is_not_the_pinned_one_is_named(tmp_path):
    jars = provision_jars()
    sums = pinned_sums()
    copies = tmp_path / "jars"
    copies.mkdir()
    for jar in jars.glob("*.jar"):
        os.link(jar, copies / jar.name) if jar.name != "re2j-1.8.jar" else (copies / jar.name).write_bytes(b"other")
    with pytest.raises(StackError, match=r"re2j-1\.8\.jar is not the pinned one"):
        verify(copies, sums)
    (copies / "re2j-1.8.jar").unlink()
    with pytest.raises(StackError, match=r"re2j-1\.8\.jar is missing"):
        verify(copies, sums)


def test_a_broker_that_cannot_take_its_port_says_so_and_where_its_log_is(kafka, tmp_path):
    taken = int(kafka.bootstrap_servers.rpartition(":")[2])
    process = process_of(Broker(tmp_path / "kafka", taken, free_port()), tmp_path)
    process.start()
    try:
        deadline = time.monotonic() + 30
        while process.is_running and time.monotonic() < deadline:
            time.sleep(0.05)
        with pytest.raises(StackError, match=r"^kafka: ended with exit code 1.*\(log: .*kafka\.log\)$"):
            process.check()
    finally:
        process.close()


def test_data_of_the_other_security_is_refused(tmp_path):
    jars = provision_jars()
    Broker(tmp_path / "kafka", 1, 2).prepare(jars)
    with pytest.raises(StackError, match=r"made with STREAMFORGE_KAFKA_SECURITY=plaintext, not scram"):
        Broker(tmp_path / "kafka", 1, 2, "scram").prepare(jars)


async def test_with_the_right_password_a_client_may_work(scram_server):
    settings = scram_settings(scram_server)
    await create(settings, "wf-a-data")
    assert await partitions(settings, "wf-a-data", "queue-events") == {"wf-a-data": 1, "queue-events": 3}


async def test_a_wrong_password_is_refused_and_told_as_such(scram_server):
    with pytest.raises(ConfigurationError, match="refused user or password"):
        await partitions(scram_settings(scram_server, password="wrong"), "queue-events")


async def test_a_plaintext_client_gets_nowhere(scram_server):
    plain = KafkaSettings(bootstrap_servers=scram_server.part.address)
    with pytest.raises(Exception, match="does not answer"):
        await partitions(plain, "queue-events")


async def test_the_client_has_no_right_that_it_was_not_given(scram_server):
    admin = KafkaAdmin(scram_settings(scram_server))
    try:
        with pytest.raises(ConfigurationError):
            await admin.delete_groups(["foreign"])
    finally:
        await admin.close()


def test_no_password_is_in_a_command_line_or_in_the_log(scram_server):
    password = scram_server.part.environment()["KAFKA_PASSWORD"]
    with open(f"/proc/{scram_server.pid}/cmdline", "rb") as file:
        assert password.encode() not in file.read()
    assert password not in scram_server.log.path.read_text()
    credentials = scram_server.part.broker.credentials
    for path in (credentials.folder / f"{CLIENT}.password", credentials.broker, scram_server.part.broker.properties):
        assert path.stat().st_mode & 0o077 == 0
