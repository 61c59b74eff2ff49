"""Files and functions that a person can hold in the head, each with a word on what it is for."""

import ast

MAX_LINES = 400
SCREEN = 60


def test_no_python_file_is_longer_than_400_lines(python, texts):
    longer = {name: count for name in python if (count := texts[name].count("\n")) > MAX_LINES}
    assert longer == {}


def test_a_function_fits_a_screen(product):
    longer = {
        f"{name}:{node.name}": lines
        for name, tree in product.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or 0) - node.lineno + 1) > SCREEN
    }
    assert longer == {}


def test_every_module_says_what_it_is(product):
    assert [name for name, tree in product.items() if not ast.get_docstring(tree)] == []
