"""What the launcher may do, as whom, how fast, and what the cluster will not have, on a real API server."""

import asyncio
import time

import pytest
import yaml

from queue_manager.launcher.interface import JobRefused, LauncherError, LauncherUnavailable
from queue_manager.launcher.kubernetes import follow

RBAC = "/apis/rbac.authorization.k8s.io/v1"
ADMISSION = "/apis/admissionregistration.k8s.io/v1"
FLOWS = "/apis/flowcontrol.apiserver.k8s.io/v1"
SEEN_WITHIN_S = 30.0


# -- refusals ------------------------------------------------------------------------------------------------------


@pytest.fixture
async def policy(stage):
    """A policy of the cluster against Jobs of the stage's namespace; in force when its dry run is refused."""
    name = f"no-jobs-{stage.namespace}"
    rule = {"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}
    own = {"matchLabels": {"kubernetes.io/metadata.name": stage.namespace}}

    async def apply(**validation):
        validations = [{"expression": "false", "message": "only the night shift may do that", **validation}]
        match = {"resourceRules": [rule], "namespaceSelector": own}
        body = {"metadata": {"name": name}, "spec": {"matchConstraints": match, "validations": validations}}
        await stage.call("post", f"{ADMISSION}/validatingadmissionpolicies", body)
        bound = {"metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]}}
        await stage.call("post", f"{ADMISSION}/validatingadmissionpolicybindings", bound)

    yield apply
    for kind in ("validatingadmissionpolicybindings", "validatingadmissionpolicies"):
        await stage.call("delete", f"{ADMISSION}/{kind}/{name}")


@pytest.mark.parametrize("reason", ["Invalid", "Forbidden"])
async def test_a_job_that_a_policy_denies_is_refused_in_the_policys_words(stage, policy, reason):
    await policy(reason=reason)
    refused = await refusal_of(stage, stage.create)
    assert (type(refused), refused.code) == (JobRefused, "admission-refused")
    assert "only the night shift may do that" in str(refused)


async def refusal_of(stage, create):
    """What creates raise as soon as a rule that was made just now is in force."""

    async def attempt():
        try:
            await create(stage.spec(name=f"job-{time.monotonic_ns()}"))
        except LauncherError as refused:
            return refused

    return await stage.sooner_or_later(attempt, within_s=SEEN_WITHIN_S)


# -- rights and credentials ----------------------------------------------------------------------------------------


def role(name, *rules):
    return {
        "metadata": {"name": name},
        "rules": [{"apiGroups": [group], "resources": list(kinds), "verbs": ["*"]} for group, *kinds in rules],
    }


ALL = (("batch", "jobs"), ("", "pods", "pods/log", "pods/status", "events"), ("coordination.k8s.io", "leases"))


async def grant(stage, name):
    """All rights in the namespace for a service account of that name."""
    roles = f"{RBAC}/namespaces/{stage.namespace}"
    await stage.call("post", f"{roles}/roles", role(name, *ALL))
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
    subject = {"kind": "ServiceAccount", "name": name, "namespace": stage.namespace}
    await stage.call(
        "post",
        f"{roles}/rolebindings",
        {"metadata": {"name": name}, "roleRef": reference, "subjects": [subject]},
    )


@pytest.fixture
def log_in(stage, control_plane, tmp_path, monkeypatch):
    """Writes a fresh token of a service account where the kubeconfig says it lies."""
    token = tmp_path / "token"
    (tmp_path / "ca.crt").write_text(control_plane.access.authority)
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "c", "cluster": {"server": control_plane.url, "certificate-authority": str(tmp_path / "ca.crt")}}
        ],
        "users": [{"name": "u", "user": {"tokenFile": str(token)}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))

    async def write(name):
        access = await asyncio.to_thread(control_plane.service_account, stage.namespace, name, lifetime_s=600)
        token.write_text(access.token)
        return access.token

    return write


async def test_all_rights_that_are_missing_are_named_until_they_are_there(stage, log_in):
    await log_in("robot")
    launcher = stage.launcher()
    with pytest.raises(LauncherUnavailable) as refused:
        await launcher.check()
    assert refused.value.code == "not-authorized"
    for words in (
        '"create" "jobs" (batch)',
        '"get" "pods/log"',
        '"update" "leases"',
        f"in namespace {stage.namespace}",
    ):
        assert words in str(refused.value)
    assert "nodes" not in str(refused.value)
    await grant(stage, "robot")
    await until_answered(stage, launcher.check)
    await launcher.close()


async def test_a_server_that_is_away_is_seen_though_the_rights_are_known(stage, own_control_plane):
    launcher = stage.launcher()
    await launcher.check()
    own_control_plane.apiserver.kill()
    with pytest.raises(LauncherUnavailable, match="does not answer") as away:
        await launcher.check()
    assert away.value.code == "launcher-unreachable"
    await asyncio.to_thread(own_control_plane.start)
    await asyncio.to_thread(own_control_plane.wait_ready)
    await launcher.check()
    await launcher.close()


async def test_a_token_that_is_replaced_holds_up_neither_watch_nor_calls(stage, log_in, monkeypatch):
    monkeypatch.setattr(follow, "WATCH_S", 2)
    await grant(stage, "robot")
    await log_in("robot")
    robot = type(stage)(stage.cluster, stage.namespace, stage.patience)
    launcher = robot.launchers[0]
    await until_answered(stage, launcher.list)
    async with robot.watching():
        await launcher.create(stage.spec())
        await robot.until(lambda s: s.live == 1)
        first = launcher._api._login
        await replace_account(stage, log_in)
        deadline = time.monotonic() + 40
        while launcher._api._login in (first, None):  # no call fails while the token stops being good
            await launcher.list()
            assert time.monotonic() < deadline, "the former token is good for ever"
            await asyncio.sleep(0.2)
        await launcher.create(stage.spec(name="job-b"))
        await robot.until(lambda s: s.live == 1, "job-b")
        await launcher.check()
    await launcher.close()


async def test_credentials_that_are_good_no_more_are_told_and_the_next_ones_are_taken(stage, log_in):
    await grant(stage, "robot")
    await log_in("robot")
    launcher = stage.launcher()
    await until_answered(stage, launcher.check)
    await stage.call("delete", f"{stage.core}/serviceaccounts/robot")

    async def is_refused():
        try:
            await launcher.check()
        except LauncherUnavailable as error:
            return "Unauthorized" in str(error)

    await stage.sooner_or_later(is_refused, within_s=40)
    await log_in("robot")
    await launcher.check()
    await launcher.close()


async def replace_account(stage, log_in):
    """Another account of that name: the server knows the former token no more, some ten seconds later."""
    account = f"{stage.core}/serviceaccounts/robot"
    former = (await stage.call("get", account))["metadata"]["uid"]
    await stage.call("delete", account)
    await log_in("robot")
    assert (await stage.call("get", account))["metadata"]["uid"] != former


async def until_answered(stage, call):
    """RBAC takes a binding in a moment after it was made."""

    async def attempt():
        try:
            await call()
        except LauncherUnavailable:
            return False
        return True

    await stage.sooner_or_later(attempt)


# -- pace ----------------------------------------------------------------------------------------------------------


async def test_jobs_are_created_side_by_side_and_no_faster_than_is_set(stage):
    launcher = stage.launcher(settings={"creates_per_s": 10})
    begin = time.monotonic()
    await asyncio.gather(*(launcher.create(stage.spec(name=f"job-{number}")) for number in range(16)))
    took = time.monotonic() - begin
    assert 1.45 <= took < 4
    await launcher.close()


@pytest.fixture
async def full_server(stage):
    """An API server that has no place for creates of Jobs by this namespace's service accounts: 429."""
    name = f"full-{stage.namespace}"
    level = {
        "type": "Limited",
        "limited": {
            "nominalConcurrencyShares": 0,
            "lendablePercent": 0,
            "borrowingLimitPercent": 0,
            "limitResponse": {"type": "Reject"},
        },
    }
    await stage.call("post", f"{FLOWS}/prioritylevelconfigurations", {"metadata": {"name": name}, "spec": level})
    rule = {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create"], "namespaces": [stage.namespace]}
    account = {"kind": "ServiceAccount", "serviceAccount": {"namespace": stage.namespace, "name": "*"}}
    flow = {
        "priorityLevelConfiguration": {"name": name},
        "matchingPrecedence": 2,
        "rules": [{"subjects": [account], "resourceRules": [rule]}],
    }
    yield lambda: stage.call("post", f"{FLOWS}/flowschemas", {"metadata": {"name": name}, "spec": flow})
    for kind in ("flowschemas", "prioritylevelconfigurations"):
        await stage.call("delete", f"{FLOWS}/{kind}/{name}")


async def test_a_server_that_asks_to_wait_is_sent_no_create_before(stage, full_server, log_in):
    await grant(stage, "robot")
    await log_in("robot")
    launcher = stage.launcher(settings={"creates_per_s": 1000})
    await until_answered(stage, launcher.list)
    await full_server()

    async def is_full():
        """One create is let through at a time; those beside it are refused."""
        specs = [stage.spec(name=f"job-{time.monotonic_ns()}-{number}") for number in range(20)]
        answers = await asyncio.gather(*map(launcher.create, specs), return_exceptions=True)
        return any("too many requests" in str(answer).lower() for answer in answers)

    await stage.sooner_or_later(is_full, within_s=SEEN_WITHIN_S)
    begin = time.monotonic()
    with pytest.raises(LauncherUnavailable, match="asked to wait"):
        await launcher.create(stage.spec())
    assert time.monotonic() - begin < 0.1, "it was sent, or waited"
    assert await launcher.get("job-a") is None  # reads go on
    await asyncio.sleep(launcher._pace.held_s + 0.1)
    assert (await launcher.create(stage.spec())).name == "job-a"
    await launcher.close()
