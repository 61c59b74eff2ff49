"""Every test that docs/reliability.md names is there."""

import ast
import re


def test_the_tests_that_the_page_names_exist(root, python):
    page = (root / "docs/reliability.md").read_text()
    named = set(re.findall(r"`(test_\w+)`", page))
    there = {
        node.name
        for name, tree in python.items()
        if "tests/" in name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert len(named) > 50
    assert sorted(named - there) == []


def test_every_fault_of_this_version_has_its_line(root):
    page = (root / "docs/reliability.md").read_text()
    faults = {int(number) for number in re.findall(r"\bR(\d+)\b", page)}
    spans = re.findall(r"R(\d+) to R(\d+)", page)
    faults |= {number for first, last in spans for number in range(int(first), int(last) + 1)}
    assert set(range(1, 42)) <= faults
