"""The files of the repository, and what happens when files change or are wrong."""

import json
from pathlib import Path

import pytest

from queue_manager.api import schema
from queue_manager.problems import KINDS
from queue_manager.targets import read_targets
from queue_manager.templates import read_templates
from streamforge_utils.contracts.reasons import REASONS
from streamforge_utils.errors import ConfigurationError

ROOT = Path(__file__).resolve().parents[5]


def due(catalogue):
    catalogue._checked = float("-inf")
    return catalogue.all()


def test_every_target_of_the_repository_can_be_read_and_every_template_runs_on_them():
    targets = read_targets([ROOT / "services"]).all()
    templates = read_templates([ROOT / "templates"]).all()
    assert set(templates) >= {"candles", "candles-with-indicators"}
    for template in templates.values():
        assert {step.target for step in template.steps} <= set(targets)


def test_the_openapi_document_is_up_to_date():
    kept = (ROOT / "docs/reference/openapi.json").read_text()
    assert kept == schema.document(), "run: python -m queue_manager.api.schema docs/reference/openapi.json"


def test_every_call_of_the_contract_is_described():
    paths = json.loads(schema.document())["paths"]
    one = "/api/v1/workflows/{queue_id}"
    assert set(paths) == {
        "/api/v1/workflows",
        one,
        *(f"{one}/{verb}" for verb in ("events", "logs", "ping", "stop", "retry", "dead-letters")),
        f"{one}/dead-letters/redrive",
        "/api/v1/targets",
        "/api/v1/templates",
        "/health/live",
        "/health/ready",
        "/health/startup",
        "/metrics",
        "/prometheus/targets",
    }


@pytest.mark.parametrize("code", sorted({*REASONS, *KINDS}))
def test_every_code_has_its_page(code):
    text = (ROOT / f"docs/errors/{code}.md").read_text()
    assert text.startswith(f"# {code}\n")
    assert "## What to do" in text


def test_no_page_is_left_without_its_code():
    assert {page.stem for page in (ROOT / "docs/errors").glob("*.md")} == {*REASONS, *KINDS}


def test_a_changed_file_is_read_again_and_a_wrong_one_is_not(tmp_path, own_installed):
    targets = own_installed.targets
    file = tmp_path / "targets" / "store" / "target.yaml"
    good = file.read_text()
    file.write_text(good.replace("version: 0.3.0", "version: 0.3.1"))
    assert due(targets)["store"].target.version == "0.3.1"
    file.write_text("apiVersion: [")
    assert due(targets)["store"].target.version == "0.3.1"
    file.write_text(good)
    assert due(targets)["store"].target.version == "0.3.0"
    file.unlink()
    assert "store" not in due(targets)


def test_a_new_service_needs_no_restart(tmp_path, own_installed):
    folder = tmp_path / "targets" / "other"
    folder.mkdir()
    (folder / "target.yaml").write_text(
        (tmp_path / "targets" / "store" / "target.yaml").read_text().replace("name: store", "name: other")
    )
    assert "other" in due(own_installed.targets)


def test_two_files_of_one_name_are_refused_and_the_good_state_holds(tmp_path, own_installed):
    folder = tmp_path / "targets" / "double"
    folder.mkdir()
    (folder / "target.yaml").write_text((tmp_path / "targets" / "store" / "target.yaml").read_text())
    assert due(own_installed.targets)["store"].folder.name == "store"
    with pytest.raises(ConfigurationError, match="same name 'store'"):
        read_targets([tmp_path / "targets"])


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("version: 0.3.0", "version: ''", "version"),
        ("kind: Target", "kind: Template", "kind"),
        ("name: store", "name: Store!", "name"),
        ('types: ["*"]', "types: [candles]", "types.0"),
        ("image:", "imag:", "imag"),
        ("max: 64", "max: 0", "replicas.max"),
        ("{default: 1, max: 64}", "{default: 9, max: 3}", "replicas"),
        ("stream: data", "stream: dead-letter", "reads.0.stream"),
        ("replicas:", "params: {type: 7}\nreplicas:", "params"),
        ("replicas:", "volumes: [{mount: /data}]\nreplicas:", "/data needs either a claim or a config_map"),
        ("replicas:", "volumes: [{mount: /tmp/x, claim: c}]\nreplicas:", "/tmp/x is the worker's own"),
        ("replicas:", "volumes: [{mount: data, claim: c}]\nreplicas:", "volumes.0.mount"),
        ("replicas:", "volumes: [{mount: /d, claim: c}, {mount: /d, config_map: m}]\nreplicas:", "one mount"),
    ],
)
def test_a_wrong_target_at_the_start_names_file_and_field(tmp_path, own_installed, old, new, named):
    file = tmp_path / "targets" / "store" / "target.yaml"
    changed = file.read_text().replace(old, new)
    assert changed != file.read_text()
    file.write_text(changed)
    with pytest.raises(ConfigurationError) as error:
        read_targets([tmp_path / "targets"])
    assert f"{file}: " in error.value.message
    assert named in error.value.message


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("retention: 2d", "retention: 2 days", "retention"),
        ("on_failure: continue", "on_failure: ignore", "on_failure"),
        ("- target: store", "- target: reader", "two steps"),
        ("steps:", "stepz:", "stepz"),
    ],
)
def test_a_wrong_template_at_the_start_names_file_and_field(tmp_path, own_installed, old, new, named):
    file = tmp_path / "templates" / "simple.yaml"
    changed = file.read_text().replace(old, new)
    assert changed != file.read_text()
    file.write_text(changed)
    with pytest.raises(ConfigurationError) as error:
        read_templates([tmp_path / "templates"])
    assert str(file) in error.value.message
    assert named in error.value.message


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ConfigurationError, match="is not a folder"):
        read_targets([tmp_path / "nowhere"])
