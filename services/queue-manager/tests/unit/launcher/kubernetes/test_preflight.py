"""The pod that tries the addresses: made as a worker's, and the program in it against real ports."""

import os
import socket
import subprocess
import sys

import pytest

from queue_manager.launcher.kubernetes.preflight import preflight_pod
from queue_manager.launcher.kubernetes.settings import KubernetesSettings


def pod(**given):
    settings = KubernetesSettings(**given)
    return preflight_pod(
        settings,
        target="loader-candles",
        image="streamforge/loader-candles:0.1.0",
        resources={"limits": {"memory": "256Mi"}},
        installation="abcd1234",
    )


def container(**given):
    return pod(**given)["spec"]["containers"][0]


def probe(**places):
    command = container()["command"]
    env = {**os.environ, **places}
    return subprocess.run([sys.executable, *command[1:]], env=env, capture_output=True, text=True, check=False)


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def closed():
    with socket.socket() as reserved:  # bound and not listening: nobody else gets it meanwhile
        reserved.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{reserved.getsockname()[1]}"


def test_it_is_made_as_a_worker_is():
    made = container(image_prefix="registry.example", secret_mounts={"ca": "/etc/ca"})
    assert made["image"] == "registry.example/streamforge/loader-candles:0.1.0"
    assert made["envFrom"] == [
        {"configMapRef": {"name": "streamforge-worker"}},
        {"secretRef": {"name": "streamforge-worker"}},
    ]
    assert made["resources"] == {"limits": {"memory": "256Mi"}}
    assert {"name": "secret-0", "mountPath": "/etc/ca", "readOnly": True} in made["volumeMounts"]
    assert made["securityContext"]["readOnlyRootFilesystem"] is True


def test_it_says_its_last_words_where_its_end_is_told_and_is_never_forgotten_by_the_cluster():
    made = pod()
    assert made["spec"]["containers"][0]["terminationMessagePolicy"] == "FallbackToLogsOnError"
    assert made["spec"]["restartPolicy"] == "Never"
    assert made["spec"]["activeDeadlineSeconds"] == 120
    assert made["metadata"]["labels"]["installation"] == "abcd1234"
    assert made["metadata"]["generateName"] == "streamforge-preflight-"


def test_nothing_of_its_program_means_something_to_kubernetes():
    assert "$" not in container()["command"][2]


def test_addresses_that_answer_are_fine(listening):
    ended = probe(KAFKA_BOOTSTRAP_SERVERS=f"{listening}, {listening}", ARANGO_URL=f"http://{listening}")
    assert ended.returncode == 0, ended.stderr


def test_what_does_not_answer_is_named_in_one_line(listening, closed):
    ended = probe(KAFKA_BOOTSTRAP_SERVERS=f"{listening},{closed}", ARANGO_URL=f"http://{closed}")
    assert ended.returncode == 3
    refused = "[Errno 111] Connection refused"
    assert ended.stderr == f"kafka at {closed} ({refused}) and the store at {closed} ({refused})\n"
