"""`make up LAUNCHER=kubernetes` as a user runs it: the stack on this machine, its workflows in a cluster."""

import json
import os
import subprocess
import sys

import pytest

from streamforge_local.kubernetes.kubeconfig import Access, write_kubeconfig
from streamforge_local.kubernetes.scenario import ClusterScenario
from streamforge_local.paths import Home
from streamforge_local.scenario import scenario, until
from streamforge_local.stack import cluster
from streamforge_local.stack.leftovers import leftovers

UP_S = 150
NOT_OURS = "10.255.255.1"
"""An address of no machine: pods that are played do not mind."""
DAY = 1440


class Cli:
    """The command line with a home and a namespace of its own."""

    def __init__(self, folder, kubeconfig, namespace):
        self.home = Home.at(folder / "home")
        self.namespace = namespace
        self.env = {"LAUNCHER": "kubernetes", "KUBECONFIG": str(kubeconfig), "KUBERNETES_NAMESPACE": namespace}

    def __call__(self, *arguments, **env):
        command = [sys.executable, "-m", "streamforge_local", *arguments]
        environ = {**os.environ, "STREAMFORGE_HOME": str(self.home.root), **self.env, **env}
        for name in ("ADVERTISED_HOST", "KUBE_CONTEXT"):
            if name not in env:
                environ.pop(name, None)
        return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=UP_S, check=False)


@pytest.fixture
def cli(control_plane, namespace, tmp_path):
    cli = Cli(tmp_path, control_plane.kubeconfig, namespace)
    yield cli
    cli("clean")
    assert leftovers(cli.home) == []


def played(**play):
    """Settings with which kwok's pods do as they are told."""
    annotations = {f"streamforge.test/{name}": str(value) for name, value in play.items()}
    patch = {"metadata": {"annotations": annotations}}
    return {"KUBERNETES_POD_TEMPLATE_PATCH": json.dumps(patch), "ADVERTISED_HOST": NOT_OURS}


def names(cluster, path):
    return {item["metadata"]["name"] for item in cluster.api.get(path)["items"]}


@pytest.mark.usefixtures("own_control_plane")
def test_up_publishes_tries_and_says_where_workflows_run_and_clean_takes_it_away(cli, control_plane):
    started = cli("up", **played(exit=0))
    assert started.returncode == 0, started.stderr
    assert (
        f"Workflows run as Jobs in namespace {cli.namespace} of {control_plane.url} (Kubernetes v1." in started.stdout
    )
    assert f"Pods reach kafka at {NOT_OURS}:" in started.stdout
    assert f"Whoever reaches {NOT_OURS} reaches Kafka there without a log-in" in started.stdout
    assert not cli.home.node_socket.exists()
    core, jobs = f"/api/v1/namespaces/{cli.namespace}", f"/apis/batch/v1/namespaces/{cli.namespace}/jobs"
    local = dict(line.split("=", 1) for line in cli.home.local_env.read_text().splitlines())
    data = control_plane.api.get(f"{core}/configmaps/streamforge-worker")["data"]
    assert data["ARANGO_URL"].startswith(f"http://{NOT_OURS}:")
    assert local["ARANGO_URL"].startswith("http://127.0.0.1:")
    assert data["DATA_ROOTS"] == "/data"
    assert local["ARANGO_PASSWORD"] not in started.stdout + started.stderr

    again = cli("up", **played(exit=0))
    assert again.returncode == 0, again.stderr
    assert "runs already" in again.stdout
    other = cli("up", LAUNCHER="process")
    assert other.returncode == 1
    assert "it runs already, with LAUNCHER=kubernetes, not process" in other.stderr
    assert f"namespace {cli.namespace}" in cli("status").stdout

    installation = cluster.read_record(cli.home).installation
    labels = {"app": "streamforge", "installation": installation}
    worker = {"containers": [{"name": "worker", "image": "x"}], "restartPolicy": "Never"}
    control_plane.api.post(
        jobs, {"metadata": {"name": "one", "labels": labels}, "spec": {"suspend": True, "template": {"spec": worker}}}
    )
    stopped = cli("down")
    assert stopped.returncode == 0
    assert f"Jobs that wait for it in namespace {cli.namespace} of {control_plane.url}" in stopped.stdout
    assert "): 1. `make up LAUNCHER=kubernetes` goes on with them" in stopped.stdout
    assert "streamforge-worker" in names(control_plane, f"{core}/configmaps")

    cleaned = cli("clean")
    assert f"Removed from namespace {cli.namespace}" in cleaned.stdout
    assert "its Jobs (1), ConfigMap and Secrets" in cleaned.stdout
    assert names(control_plane, f"{core}/configmaps") <= {"kube-root-ca.crt"}
    assert names(control_plane, f"{core}/secrets") == set()


@pytest.mark.usefixtures("own_control_plane")
def test_a_stack_that_pods_do_not_reach_does_not_stay(cli):
    refused = cli("up", **played(exit=127))
    assert refused.returncode == 1
    assert refused.stderr == "kubernetes: the preflight pod ended with 127 (Error): it said nothing\n"
    assert cli("status").returncode == 3
    assert leftovers(cli.home) == []
    unpulled = cli("up", **played(pending="ImagePullBackOff"))
    assert unpulled.returncode == 1
    assert "its image cannot be pulled" in unpulled.stderr
    assert "KUBERNETES_IMAGE_PREFIX" in unpulled.stderr
    assert cli("up", **played(exit=0)).returncode == 0, "what it left in the namespace is its own"


@pytest.mark.usefixtures("own_control_plane")
def test_a_stack_that_moves_to_another_namespace_leaves_nothing_in_the_former(cli, control_plane):
    assert cli("up", **played(exit=0)).returncode == 0
    assert cli("down").returncode == 0
    other = control_plane.new_namespace("up")
    try:
        moved = cli("up", **played(exit=0), KUBERNETES_NAMESPACE=other)
        assert moved.returncode == 0, moved.stderr
        assert f"Removed from namespace {cli.namespace}" in moved.stdout
        assert names(control_plane, f"/api/v1/namespaces/{cli.namespace}/configmaps") <= {"kube-root-ca.crt"}
        assert "streamforge-worker" in names(control_plane, f"/api/v1/namespaces/{other}/configmaps")
        cli("clean")
    finally:
        control_plane.remove_namespace(other)


@pytest.mark.parametrize(
    ("env", "why"),
    [
        ({"ADVERTISED_HOST": "8.8.8.8"}, "ADVERTISED_HOST=8.8.8.8 is a public address"),
        ({"KUBECONFIG": "/nowhere/config"}, "the kubeconfig cannot be used"),
        ({"LAUNCHER": "nomad"}, "LAUNCHER='nomad' is not known"),
    ],
)
def test_what_cannot_work_is_one_line_before_anything_starts(cli, env, why):
    refused = cli("up", **env)
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert why in refused.stderr
    assert not cli.home.logs.exists()


def test_a_cluster_elsewhere_is_refused_unless_its_context_is_named(cli, control_plane, tmp_path):
    elsewhere = Access("https://198.51.100.1:6443", control_plane.access.authority, "me", token="x")
    refused = cli("up", KUBECONFIG=str(write_kubeconfig(tmp_path / "elsewhere", elsewhere)))
    assert refused.returncode == 1
    assert refused.stderr.startswith("kubernetes: the kubeconfig's current context leads to https://198.51.100.1:6443")
    assert "KUBE_CONTEXT" in refused.stderr
    assert not cli.home.logs.exists()


def test_a_namespace_of_another_installation_is_refused_before_anything_starts(cli, control_plane):
    body = {"metadata": {"name": "streamforge-worker", "labels": {"installation": "bbbb2222"}}}
    control_plane.api.post(f"/api/v1/namespaces/{cli.namespace}/configmaps", body)
    refused = cli("up", ADVERTISED_HOST=NOT_OURS)
    assert refused.returncode == 1
    assert f"namespace {cli.namespace} of {control_plane.url} is in use by installation bbbb2222" in refused.stderr
    assert not cli.home.logs.exists()


# --- with a real node ------------------------------------------------------------------------------------------------


@pytest.fixture
def on_node(node_cluster, tmp_path):
    cli = Cli(tmp_path, node_cluster.kubeconfig, node_cluster.new_namespace("up"))
    yield cli
    cli("clean")
    node_cluster.remove_namespace(cli.namespace)
    assert leftovers(cli.home) == []


def body(*, rate=None, days=1):
    params = {"source": "simulated", "seed": 7} | ({"rate": rate} if rate else {})
    return {
        "template": "candles-with-indicators",
        "symbol": "BTCUSDT",
        "type": "api_candles_1m",
        "time_range": f"2024-08-01:2024-08-{1 + days:02}",
        "steps": [{"name": "loader-candles", "params": params}],
    }


@pytest.mark.timeout(300, func_only=True)
@pytest.mark.parametrize("security", ["plaintext", "scram"])
async def test_a_workflow_runs_in_real_pods_to_its_end_and_another_is_stopped(on_node, node_cluster, security):
    started = on_node("up", STREAMFORGE_KAFKA_SECURITY=security)
    assert started.returncode == 0, started.stderr
    assert "Pods reach kafka at 10.244.0.1:" in started.stdout

    def make(*given):
        return ClusterScenario(*given, cluster=node_cluster, namespace=on_node.namespace)

    async with scenario(on_node.home, make) as live:
        await live.all_ready()
        whole = await live.ended((await live.submit(body()))["queue_id"], timeout_s=120)
        assert whole["state"] == "finished", whole
        assert await live.count(whole["collection"]) == DAY
        lines = (await live.get(f"{whole['queue_id']}/logs"))["items"]
        assert {line["step"] for line in lines} == {step["name"] for step in whole["steps"]}

        slow = (await live.submit(body(rate=50, days=10)))["queue_id"]

        async def stored():
            return (await live.get(slow))["steps"][-1]["stored"] > 0

        await until(stored, "something is stored", timeout_s=60)
        await live.post(f"{slow}/stop")
        assert (await live.ended(slow, timeout_s=60))["state"] == "interrupted"

        async def gone():
            return sum(job["live"] for job in await live.jobs(slow)) == 0

        await until(gone, "its pods are gone", timeout_s=60)


@pytest.mark.timeout(300, func_only=True)
async def test_jobs_wait_for_a_stack_that_is_down_and_go_on_with_the_next_up(on_node, node_cluster):
    def make(*given):
        return ClusterScenario(*given, cluster=node_cluster, namespace=on_node.namespace)

    assert on_node("up").returncode == 0
    async with scenario(on_node.home, make) as live:
        queue_id = (await live.submit(body(rate=40)))["queue_id"]

        async def stored():
            return (await live.get(queue_id))["steps"][-1]["stored"] > 0

        await until(stored, "something is stored", timeout_s=60)
    stopped = on_node("down")
    assert f"Jobs that wait for it in namespace {on_node.namespace}" in stopped.stdout
    started = on_node("up")
    assert started.returncode == 0, started.stderr
    async with scenario(on_node.home, make) as live:
        whole = await live.ended(queue_id, timeout_s=150)
        assert whole["state"] == "finished", whole
        assert await live.count(whole["collection"]) == DAY


@pytest.mark.timeout(200, func_only=True)
def test_the_demo_is_the_same_in_a_cluster(on_node):
    shown = on_node("demo")
    assert shown.returncode == 0, shown.stderr
    assert "Pods reach kafka at 10.244.0.1:" in shown.stdout
    assert "ping -> " in shown.stdout
    assert "The demo went well" in shown.stdout


@pytest.mark.timeout(200, func_only=True)
def test_an_address_that_leads_pods_nowhere_is_told_by_name(on_node):
    refused = on_node("up", ADVERTISED_HOST="10.244.0.250")
    assert refused.returncode == 1
    assert refused.stderr.startswith("kubernetes: pods cannot reach kafka at 10.244.0.250:")
    assert refused.stderr.endswith("(ADVERTISED_HOST=10.244.0.250)\n")
    assert on_node("status").returncode == 3
