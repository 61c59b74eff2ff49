"""The record of decisions is complete: numbered, of one form, a page each."""

import re

HEADINGS = ["Alternatives", "Consequences", "Context", "Decision", "How it is tested"]
SCREEN = 60


def test_decisions_are_numbered_without_gap_or_double(root):
    files = sorted((root / "docs/adr").glob("*.md"))
    assert [int(file.name[:4]) for file in files] == list(range(1, len(files) + 1))
    for file in files:
        assert file.read_text().startswith(f"# {int(file.name[:4])}. "), file.name


def test_a_decision_has_its_five_parts_on_one_page(root):
    for file in sorted((root / "docs/adr").glob("*.md")):
        text = file.read_text()
        assert len(text.splitlines()) <= SCREEN, file.name
        headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
        assert sorted({"What follows": "Consequences"}.get(heading, heading) for heading in headings) == HEADINGS, (
            file.name
        )
