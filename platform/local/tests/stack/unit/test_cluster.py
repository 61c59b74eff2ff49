"""What is different when workflows run as Jobs: the addresses that pods are told, and what lets them in."""

import asyncio
import json
import socket
import threading

import pytest
from cryptography import x509

from streamforge_local.failures import StackError
from streamforge_local.kafka.broker import Broker, PodListener
from streamforge_local.kafka.security import make_credentials
from streamforge_local.paths import Home
from streamforge_local.stack import cluster, start
from streamforge_local.stack.parts import CA_FOLDER, CA_SECRET, CLUSTER_PARTS, PARTS, build_parts
from streamforge_local.stack.relay import serve

HOST = "10.244.0.1"
RECORD = cluster.Record("https://127.0.0.1:1", "v1.34.4", "stf", "abcd1234", {"KUBECONFIG": "/kubeconfig"})


@pytest.mark.parametrize("name", ["10.244.0.1", "172.18.0.1", "192.168.1.5"])
def test_a_private_address_may_be_told_to_pods(name):
    assert cluster.named_host({"ADVERTISED_HOST": name}) == name


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("8.8.8.8", "public address"),
        ("127.0.0.1", "to itself"),
        ("0.0.0.0", "to itself or nowhere"),
        ("224.0.0.1", "to itself or nowhere"),
        ("localhost", "not an IPv4 address"),
        ("fd00::1", "not an IPv4 address"),
    ],
)
def test_any_other_address_is_refused_by_the_name_of_its_variable(name, why):
    with pytest.raises(StackError, match=rf"ADVERTISED_HOST.*{why}"):
        cluster.named_host({"ADVERTISED_HOST": name})


def test_without_a_name_a_cluster_elsewhere_needs_one():
    assert cluster.named_host({}) is None
    with pytest.raises(StackError, match="set ADVERTISED_HOST"):
        cluster.usual_host("https://198.51.100.1:6443")


def test_without_a_name_a_cluster_here_has_the_address_of_its_bridge(monkeypatch):
    monkeypatch.setattr(cluster, "BRIDGE", "127.0.0.1")
    assert cluster.usual_host("https://127.0.0.1:6443") == "127.0.0.1"
    monkeypatch.setattr(cluster, "BRIDGE", "198.51.100.1")
    with pytest.raises(StackError, match="set ADVERTISED_HOST"):
        cluster.usual_host("https://127.0.0.1:6443")


def test_an_address_of_another_machine_is_not_ours():
    assert cluster.is_own("127.0.0.1")
    assert not cluster.is_own("198.51.100.1")


def properties(broker, tmp_path):
    (tmp_path / "kafka").mkdir(exist_ok=True)
    (tmp_path / "kafka" / "security").write_text(broker.security)  # as if formatted: no Java is needed
    broker.prepare(tmp_path)
    return dict(line.partition("=")[::2] for line in broker.properties.read_text().splitlines())


def test_pods_have_a_listener_of_their_own_on_loopback(tmp_path):
    alone = properties(Broker(tmp_path / "kafka", 1, 2), tmp_path)
    assert alone["listeners"] == "PLAINTEXT://127.0.0.1:1,CONTROLLER://127.0.0.1:2"
    assert alone["advertised.listeners"] == "PLAINTEXT://127.0.0.1:1"
    both = properties(Broker(tmp_path / "kafka", 1, 2, pods=PodListener(HOST, 3)), tmp_path)
    assert both["listeners"] == "PLAINTEXT://127.0.0.1:1,PODS://127.0.0.1:3,CONTROLLER://127.0.0.1:2"
    assert both["advertised.listeners"] == "PLAINTEXT://127.0.0.1:1,PODS://10.244.0.1:3"


def test_with_scram_pods_log_in_too(tmp_path):
    broker = Broker(tmp_path / "kafka", 1, 2, "scram", pods=PodListener(HOST, 3))
    found = properties(broker, tmp_path)
    assert "PODS:SASL_SSL" in found["listener.security.protocol.map"].split(",")
    assert "listener.name.pods.scram-sha-512.sasl.jaas.config" in found


def addresses(credentials):
    pem = credentials.broker.read_bytes()
    names = x509.load_pem_x509_certificate(pem[pem.index(b"-----BEGIN CERT") :]).extensions
    found = names.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(address) for address in found.get_values_for_type(x509.IPAddress)}


def test_the_broker_s_certificate_is_made_again_for_an_address_that_it_lacks(tmp_path):
    folder = tmp_path / "secrets"
    assert addresses(make_credentials(folder)) == {"127.0.0.1"}
    made = make_credentials(folder, [HOST])
    assert addresses(made) == {"127.0.0.1", HOST}
    password, pem = made.password("admin"), made.broker.read_bytes()
    again = make_credentials(folder)
    assert (again.password("admin"), again.broker.read_bytes()) == (password, pem), "what covers more is kept"


def queue_manager(tmp_path, **more):
    (part,) = build_parts(Home.at(tmp_path), ["queue-manager"], **more)
    return part


def test_workers_that_are_pods_are_told_other_addresses_than_the_queue_manager(tmp_path, monkeypatch):
    monkeypatch.delenv("DATA_ROOTS", raising=False)
    part = queue_manager(tmp_path, advertised=HOST)
    own = part.prepare().env
    port = own["ARANGO_URL"].rpartition(":")[2]
    assert own["LAUNCHER"] == "kubernetes"
    assert own["DATA_ROOTS"] == "/data"
    assert own["KAFKA_BOOTSTRAP_SERVERS"].startswith("127.0.0.1:")
    assert part.pods["ARANGO_URL"] == f"http://{HOST}:{port}"
    assert part.pods["KAFKA_BOOTSTRAP_SERVERS"].startswith(f"{HOST}:")
    assert part.pods["KAFKA_BOOTSTRAP_SERVERS"].rpartition(":")[2] != own["KAFKA_BOOTSTRAP_SERVERS"].rpartition(":")[2]
    assert "KAFKA_CA_PATH" not in part.pods
    assert own["KUBERNETES_LOG_ARCHIVE"] == str(Home.at(tmp_path).data / "pod-logs")


def test_with_scram_pods_get_the_authority_from_a_secret_beside_the_user_s_own_mounts(tmp_path, monkeypatch):
    monkeypatch.setenv("KUBERNETES_SECRET_MOUNTS", '{"mine": "/etc/mine"}')
    part = queue_manager(tmp_path, advertised=HOST, security="scram")
    own = part.prepare().env
    assert part.pods["KAFKA_CA_PATH"] == f"{CA_FOLDER}/ca.pem"
    assert json.loads(own["KUBERNETES_SECRET_MOUNTS"]) == {"mine": "/etc/mine", CA_SECRET: CA_FOLDER}
    monkeypatch.setenv("KUBERNETES_SECRET_MOUNTS", "[1")
    with pytest.raises(StackError, match="KUBERNETES_SECRET_MOUNTS is not a JSON object"):
        part.prepare()


def test_a_stack_for_a_cluster_has_no_node_and_lets_pods_in_at_one_address(tmp_path):
    parts = build_parts(Home.at(tmp_path), CLUSTER_PARTS, advertised=HOST)
    assert [part.name for part in parts] == ["kafka", "arango", "relay", "queue-manager"]
    kafka, arango, relay, _ = parts
    assert relay.host == HOST
    assert relay.relayed == (kafka.broker.pods.port, arango.port)
    assert [part.name for part in build_parts(Home.at(tmp_path), PARTS)] == ["kafka", "arango", "node", "queue-manager"]
    assert queue_manager(tmp_path).prepare().env["LAUNCHER"] == "process"


def test_an_unknown_launcher_is_refused():
    assert start.launcher({}) == "process"
    assert start.launcher({"LAUNCHER": "kubernetes"}) == "kubernetes"
    with pytest.raises(StackError, match="LAUNCHER='nomad' is not known"):
        start.launcher({"LAUNCHER": "nomad"})


def test_what_was_published_where_is_found_again(tmp_path):
    home = Home.at(tmp_path)
    assert cluster.read_record(home) is None
    assert start.notes(home) == ()
    home.data.mkdir()
    cluster.write_record(home, RECORD)
    assert cluster.read_record(home) == RECORD
    assert start.notes(home) == ("Workflows run as Jobs in namespace stf of https://127.0.0.1:1 (Kubernetes v1.34.4).",)


def test_a_cluster_that_is_gone_does_not_keep_the_data(tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    home = Home.at(tmp_path / "home")
    home.data.mkdir(parents=True)
    cluster.write_record(home, RECORD)
    said = start.clean(home)
    assert not home.root.exists()
    assert "its data is removed" in said
    assert "kubectl delete job,configmap,secret -n stf -l app=streamforge,installation=abcd1234" in said


class Echo(threading.Thread):
    """A server on loopback that sends back what it gets until the client has said all."""

    def __init__(self):
        super().__init__(daemon=True)
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.ended = threading.Event()

    def run(self):
        connection, _ = self.server.accept()
        with connection:
            try:
                while data := connection.recv(1 << 16):
                    connection.sendall(data)
            except OSError:
                pass
        self.ended.set()


@pytest.fixture
async def relayed():
    """A port of 127.0.0.2 that leads to an echo."""
    echo, stop = Echo(), asyncio.Event()
    echo.start()
    serving = asyncio.create_task(serve("127.0.0.2", [echo.port], stop))
    await asyncio.sleep(0.05)
    yield echo
    stop.set()
    await serving
    echo.server.close()


async def test_every_byte_gets_through_and_the_end_of_either_side_too(relayed):
    reader, writer = await asyncio.open_connection("127.0.0.2", relayed.port)
    sent = bytes(range(256)) * 20_000

    async def send():
        writer.write(sent)
        await writer.drain()
        writer.write_eof()

    _, got = await asyncio.gather(send(), reader.read(-1))
    assert got == sent
    assert await asyncio.to_thread(relayed.ended.wait, 5)
    writer.close()
    await writer.wait_closed()


async def test_a_client_that_dies_is_dead_for_the_server_too(relayed):
    _, writer = await asyncio.open_connection("127.0.0.2", relayed.port)
    writer.write(b"x")
    await writer.drain()
    writer.transport.abort()
    assert await asyncio.to_thread(relayed.ended.wait, 5)


async def test_a_connection_to_a_server_that_is_away_ends_at_once():
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port, stop = reserved.getsockname()[1], asyncio.Event()
        serving = asyncio.create_task(serve("127.0.0.2", [port], stop))
        await asyncio.sleep(0.05)
        reader, writer = await asyncio.open_connection("127.0.0.2", port)
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        stop.set()
        await serving
