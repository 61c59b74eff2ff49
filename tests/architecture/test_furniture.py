"""What lies around the code is true: manifests equal the embedded stack, jobs call goals that exist, files parse."""

import json
import re
import tomllib
from typing import Any

import pytest
import yaml

from streamforge_local.kafka import bootstrap
from streamforge_local.kafka.rights import CLUSTER, GROUP, TOPIC, TRANSACTIONAL_ID, rights

RESOURCES = {TOPIC: "topic", GROUP: "group", CLUSTER: "cluster", TRANSACTIONAL_ID: "transactionalId"}
# Numbers of Kafka's protocol (AclOperation) and the operator's words for them.
OPERATIONS = {
    3: "Read",
    4: "Write",
    5: "Create",
    6: "Delete",
    7: "Alter",
    8: "Describe",
    10: "DescribeConfigs",
    11: "AlterConfigs",
}


@pytest.fixture(scope="module")
def manifests(root) -> dict[tuple[str, str], Any]:
    documents = [yaml.safe_load(file.read_text()) for file in sorted((root / "cred-kafka-yaml").glob("*.yaml"))]
    assert all(document["apiVersion"] == "kafka.strimzi.io/v1" for document in documents)
    return {(document["kind"], document["metadata"]["name"]): document["spec"] for document in documents}


@pytest.fixture(scope="module")
def pipeline(root) -> dict[str, Any]:
    """The pipeline's jobs, without the templates they stand on."""
    described = yaml.safe_load((root / ".gitlab-ci.yml").read_text())
    return {name: job for name, job in described.items() if isinstance(job, dict) and "extends" in job}


@pytest.fixture(scope="module")
def jobs(root, pipeline) -> dict[str, Any]:
    """All jobs, templates included."""
    found = dict(pipeline)
    for included in yaml.safe_load((root / ".gitlab-ci.yml").read_text())["include"]:
        found |= yaml.safe_load((root / included["local"]).read_text())
    return found


def test_topics_have_the_settings_of_the_embedded_stack(manifests):
    specs = {spec.name: spec for spec in bootstrap.topics()}
    assert {name for kind, name in manifests if kind == "KafkaTopic"} == set(specs)
    for name, spec in specs.items():
        manifest = manifests["KafkaTopic", name]
        assert manifest["partitions"] == spec.partitions
        config = {
            key: str(value).lower() if isinstance(value, bool) else str(value)
            for key, value in manifest["config"].items()
        }
        assert config == spec.config


def test_the_user_may_do_what_it_may_in_the_embedded_stack(manifests):
    user = manifests["KafkaUser", "user-streamforge"]
    assert user["authentication"] == {"type": "scram-sha-512"}
    acls = {
        (acl["resource"]["type"], acl["resource"].get("name", "")): set(acl["operations"])
        for acl in user["authorization"]["acls"]
    }
    embedded: dict[tuple[str, str], set[str]] = {}
    for right in rights():
        kind = RESOURCES[right.resource]
        name = {"topic": "wf-", "cluster": ""}.get(kind, right.name)
        embedded.setdefault((kind, name), set()).add(OPERATIONS[right.operation])
    fixed = {("topic", name) for name in ("queue-control", "queue-events")}
    assert {resource: operations for resource, operations in acls.items() if resource not in fixed} == embedded
    for resource in fixed:
        assert {"Read", "Write", "Describe"} <= acls[resource]


def test_patterns_of_the_user_s_rights_are_what_their_names_look_like(manifests):
    for acl in manifests["KafkaUser", "user-streamforge"]["authorization"]["acls"]:
        resource = acl["resource"]
        if "name" in resource:
            assert resource["patternType"] == ("prefix" if resource["name"].endswith("-") else "literal")


def test_jobs_call_goals_that_the_makefile_has(root, jobs):
    makefile = (root / "Makefile").read_text()
    goals = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE)) | set(
        re.findall(r"^READY := (\S+)", makefile, re.MULTILINE)
    )
    lines = [line for job in jobs.values() for line in job.get("script", [])]
    called = {line.removeprefix("make ") for line in lines if line.startswith("make ")}
    assert {"check", "test"} <= called <= goals


def test_every_service_has_its_job(root, pipeline):
    tested = {job["variables"]["SERVICE"] for job in pipeline.values() if "variables" in job}
    assert tested == {file.parent.name for file in (root / "services").glob("*/pyproject.toml")}


def test_jobs_stand_on_jobs_that_exist(jobs):
    assert {job["extends"] for job in jobs.values() if "extends" in job} <= set(jobs)


def test_the_development_container_builds_from_a_file_that_is_there(root):
    described = json.loads((root / ".devcontainer/devcontainer.json").read_text())
    dockerfile = (root / ".devcontainer" / described["build"]["dockerfile"]).read_text()
    assert "FROM ubuntu:22.04" in dockerfile
    for needed in ("python3.11", "python3.11-venv", "make", "git", "curl"):
        assert re.search(rf"(?<![\w.-]){re.escape(needed)}(?![\w.-])", dockerfile), needed


def test_every_yaml_json_and_toml_file_can_be_read(texts):
    def documents(text):
        return list(yaml.safe_load_all(text))

    readers = {".yaml": documents, ".yml": documents, ".json": json.loads, ".toml": tomllib.loads}
    read = 0
    for name, text in texts.items():
        reader = next((reader for ending, reader in readers.items() if name.endswith(ending)), None)
        if reader is not None:
            reader(text)
            read += 1
    assert read > 10
