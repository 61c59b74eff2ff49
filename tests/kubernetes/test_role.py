"""The Role that the how-to page shows is just enough: with it all goes, and without any one verb the lack is named."""

import copy
import time

import pytest
import yaml

from queue_manager.launcher.interface import LauncherUnavailable
from queue_manager.launcher.kubernetes.launcher import KubernetesLauncher
from queue_manager.launcher.kubernetes.settings import KubernetesSettings
from streamforge_local.kubernetes.kubeconfig import write_kubeconfig

PATHS = {
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
}
SEEN_WITHIN_S = 10.0
NEEDED = [("jobs", verb) for verb in ("create", "get", "list", "watch", "delete")] + [
    ("pods", "delete"),
    ("pods/log", "get"),
    ("events", "list"),
    ("leases", "update"),
]


@pytest.fixture
def shown(pytestconfig, namespace):
    """The page's objects, in the test's namespace; those of the whole cluster under a name of its own."""
    page = (pytestconfig.rootpath / "docs/how-to/run-on-a-cluster.md").read_text()
    text = page.split("```yaml\n")[1].split("```")[0].replace("stf", namespace)
    return list(yaml.safe_load_all(text.replace("streamforge-nodes", f"{namespace}-nodes")))


@pytest.fixture
def apply(control_plane, namespace):
    applied = []

    def create(objects):
        for made in objects:
            path = PATHS[made["kind"]].format(namespace)
            control_plane.api.post(path, made)
            applied.append(f"{path}/{made['metadata']['name']}")

    yield create
    for path in reversed(applied):
        control_plane.api.delete(path)


@pytest.fixture
async def launcher(control_plane, namespace, monkeypatch, tmp_path):
    made = []

    def build():
        access = control_plane.service_account(namespace, "queue-manager")
        path = write_kubeconfig(tmp_path / "kubeconfig", access, namespace=namespace)
        monkeypatch.setenv("KUBECONFIG", str(path))
        made.append(KubernetesLauncher(KubernetesSettings(namespace=namespace, config_map="", secret="")))
        return made[-1]

    yield build
    for one in made:
        await one.close()


async def settled(launcher):
    """What check() says as soon as RBAC has taken the objects in: the message, or None."""
    deadline = time.monotonic() + SEEN_WITHIN_S
    said = "-"
    while time.monotonic() < deadline:
        try:
            await launcher.check()
        except LauncherUnavailable as error:
            if said == str(error):
                return error
            said = str(error)
        else:
            return None
    raise AssertionError(said)


async def test_the_shown_role_is_enough(shown, apply, launcher):
    apply(shown)
    made = launcher()
    assert await settled(made) is None
    assert await made.list() == []
    assert await made.election().take("host/1/x", seconds=10) == 1
    assert await made.election().take("host/1/x", seconds=10) == 1


@pytest.mark.parametrize(("resource", "verb"), NEEDED)
async def test_without_a_verb_the_lack_is_named(shown, apply, launcher, resource, verb):
    objects = copy.deepcopy(shown)
    role = next(made for made in objects if made["kind"] == "Role")
    rule = next(rule for rule in role["rules"] if resource in rule["resources"])
    rule["verbs"].remove(verb)
    if not rule["verbs"]:
        role["rules"].remove(rule)
    apply(objects)
    error = await settled(launcher())
    assert error.code == "not-authorized"
    assert f'"{verb}" "{resource}"' in str(error)


async def test_without_the_sight_of_nodes_all_else_goes(shown, apply, launcher):
    apply([made for made in shown if not made["kind"].startswith("Cluster")])
    assert await settled(launcher()) is None
