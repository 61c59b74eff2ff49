"""docs/reference/contract.md leaves nothing out: every variable, command, event, decision and exit code is on it."""

import re
from typing import get_args

import pytest

from streamforge_utils.contracts.commands import LEVELS, CommandName
from streamforge_utils.contracts.events import STATUS, DecisionName
from streamforge_utils.settings import ArangoSettings, KafkaSettings, WorkerSettings
from streamforge_utils.worker import runner


@pytest.fixture
def page(root) -> str:
    return (root / "docs/reference/contract.md").read_text()


def rows(page: str, heading: str) -> list[list[str]]:
    section = page.partition(f"\n## {heading}")[2].partition("\n## ")[0]
    assert section, heading
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]


def test_every_variable_of_a_worker_is_named(page):
    variables = {name.upper() for name in WorkerSettings.model_fields} - {"KAFKA", "ARANGO"}
    variables |= {f"KAFKA_{name.upper()}" for name in KafkaSettings.model_fields}
    variables |= {f"ARANGO_{name.upper()}" for name in ArangoSettings.model_fields}
    named = set(re.findall(r"[A-Z][A-Z_]+", " ".join(row[0] for row in rows(page, "Environment of a worker"))))
    assert variables - named == set()
    # What tools and sources read beside the settings of every worker.
    assert named - variables == {"KAFKA_TOPIC", "DATA_ROOTS"}


def test_every_command_is_named_with_its_kind(page):
    found = {
        name: row[1]
        for row in rows(page, "Commands, on `queue-control`")[2:]
        for name in re.findall(r"`(.+?)`", row[0])
    }
    assert found == {name: "level" if name in LEVELS else "edge" for name in get_args(CommandName)}


def test_every_event_is_named_with_its_status(page):
    found = {row[0].strip("`"): row[1] for row in rows(page, "Events, on `queue-events`")[2:]}
    assert found == {name.value: status for name, status in STATUS.items()}


def test_every_decision_is_named(page):
    assert f"`{' '.join(DecisionName)}`" in page


def test_every_exit_code_is_named(page):
    named = {int(number) for row in rows(page, "A worker's end")[2:] for number in re.findall(r"^\d+", row[0])}
    assert named == {value for name, value in vars(runner).items() if name.startswith("EXIT_")}
