"""What must never be, as far as import-linter (.importlinter) cannot tell: who names, decides, retries, makes what."""

import ast
import re

import pytest
import yaml

QUEUE_MANAGER = "services/queue-manager/queue_manager/"
WHEEL = "libs/streamforge_utils/src/streamforge_utils/"
NAMES = WHEEL + "contracts/names.py"
RETRY = WHEEL + "pipeline/retry.py"
CODEC = WHEEL + "codec.py"
PLATFORM = ("platform/local/", "benchmarks/")

JSON_LIBRARIES = {"json", "orjson", "ujson", "simplejson", "msgspec", "rapidjson"}
JSON_ALLOWED = {
    CODEC: "the one decoder and encoder of records and messages",
    QUEUE_MANAGER + "api/bodies.py": "requests are read strictly: no key twice, no NaN, which fast decoders let pass",
    QUEUE_MANAGER + "api/schema.py": "writes the API's description for people, indented",
    QUEUE_MANAGER + "launcher/process.py": "the local node's wire format, which is not StreamForge's",
    QUEUE_MANAGER + "launcher/kubernetes/api.py": "the API server's JSON, which is not StreamForge's",
    QUEUE_MANAGER + "launcher/kubernetes/follow.py": "the same, line by line",
    QUEUE_MANAGER + "launcher/kubernetes/archive.py": "the lines of kept logs, which are no messages",
    QUEUE_MANAGER + "launcher/kubernetes/spool.py": "the same on their way there",
    QUEUE_MANAGER + "launcher/kubernetes/settings.py": "variables that hold JSON",
    "services/dummy-service/dummy_service/debug_producer.py": "prints JSON for people",
    "services/dummy-service/debug_producer.py": "prints JSON for people",
}
RETRY_LIBRARIES = {"stamina", "tenacity", "backoff", "retry", "retrying"}
MADE_ONCE = re.compile(r"(Settings|Client|Producer|Consumer|Session|Registry|Runner|Engine|Pool|[a-z]Loop|Admin)$")
LOOPS = {
    "new_event_loop",
    "get_event_loop",
    "set_event_loop",
    "get_running_loop",
    "run",
    "ensure_future",
    "create_task",
}
BUILT_NAME = re.compile(r"\{\}-(data|dead-letter)\b|^wf-|^job-|^\{\}__\{\}|^\{\}-\{\}-\{\}-\{\}$")
QUERY = re.compile(r"^\s*(FOR \w+ IN|UPSERT|LET \w+ =|RETURN DOCUMENT)\b", re.MULTILINE)


def imported(tree: ast.AST) -> set[str]:
    """Top-level names of all packages that a module imports, wherever it does."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
    return found


def strings(tree: ast.AST) -> list[str]:
    """Every text of a module; what is filled in stands as {}. Docstrings are left out."""
    docstrings = {
        id(body[0].value)
        for node in ast.walk(tree)
        if isinstance(body := getattr(node, "body", None), list) and body and isinstance(body[0], ast.Expr)
    }
    inside: set[int] = set()
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            inside |= {id(part) for part in node.values}
            parts = (part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
            found.append("".join(map(str, parts)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings | inside:
            found.append(node.value)
    return found


def at_import(tree: ast.Module) -> list[ast.Call]:
    """Calls that importing the module makes: in functions and under ``if __name__`` there are none."""
    calls: list[ast.Call] = []

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            return
        if isinstance(node, ast.If) and "__name__" in ast.unparse(node.test):
            return
        if isinstance(node, ast.Call):
            calls.append(node)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(tree)
    return calls


def called(call: ast.Call) -> str:
    """Last part of the called name, of a generic without its argument."""
    function = call.func.value if isinstance(call.func, ast.Subscript) else call.func
    return ast.unparse(function).rpartition(".")[2]


def test_the_queue_manager_names_no_target(root, product):
    files = (root / "services").glob("*/target.yaml")
    targets = {yaml.safe_load(file.read_text())["name"] for file in files}
    assert len(targets) >= 3
    words = re.compile("|".join(sorted({re.escape(t) for t in targets | {t.replace("-", "_") for t in targets}})))
    named = [
        f"{name}: {text}"
        for name, tree in product.items()
        if name.startswith(QUEUE_MANAGER)
        for text in [*strings(tree), *imported(tree)]
        if words.search(text)
    ]
    assert named == []


def test_the_wheel_names_no_target_but_in_examples(root, product):
    files = (root / "services").glob("*/target.yaml")
    targets = {yaml.safe_load(file.read_text())["name"] for file in files}
    named = [
        f"{name}: {text}"
        for name, tree in product.items()
        if name.startswith(WHEEL) and not name.endswith("contracts/asyncapi.py")
        for text in strings(tree)
        if text in targets
    ]
    assert named == []


def test_importing_a_module_makes_no_client_settings_or_loop(product):
    made = [
        f"{name}:{call.lineno}: {ast.unparse(call)[:80]}"
        for name, tree in product.items()
        if not name.endswith("__main__.py")
        for call in at_import(tree)
        if MADE_ONCE.search(called(call)) or called(call) in LOOPS
    ]
    assert made == []


@pytest.mark.parametrize(
    "source",
    [
        "settings = Settings()",
        "class Api:\n    client = httpx.AsyncClient(timeout=1)",
        "SETTINGS = read(WorkerSettings[Params](params=None))",
        "loop = asyncio.new_event_loop()",
        "if True:\n    asyncio.run(main())",
    ],
)
def test_a_module_that_makes_one_would_be_found(source):
    assert any(MADE_ONCE.search(called(call)) or called(call) in LOOPS for call in at_import(ast.parse(source)))


@pytest.mark.parametrize(
    "source",
    ["def main():\n    return Settings()", "if __name__ == '__main__':\n    asyncio.run(main())", "LIMIT = int('3')"],
)
def test_a_module_that_makes_none_would_not(source):
    assert not any(MADE_ONCE.search(called(call)) or called(call) in LOOPS for call in at_import(ast.parse(source)))


def test_a_json_library_is_called_only_where_it_has_a_reason(product):
    users = [
        name
        for name, tree in product.items()
        if not name.startswith(PLATFORM) and imported(tree) & JSON_LIBRARIES and name not in JSON_ALLOWED
    ]
    assert users == [], f"use {CODEC}"


def test_retries_have_one_home(product):
    users = [name for name, tree in product.items() if imported(tree) & RETRY_LIBRARIES]
    assert users == [RETRY]


def test_names_are_built_in_one_place(product):
    built = [
        f"{name}: {text}"
        for name, tree in product.items()
        if name != NAMES and not name.startswith(PLATFORM)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for text in strings(ast.Expression(body=node))[:1]
        if BUILT_NAME.search(text)
    ]
    assert built == [], f"use {NAMES}"


def test_the_one_place_that_builds_names_would_be_found(product):
    found = [text for text in strings(product[NAMES]) if BUILT_NAME.search(text)]
    assert len(found) >= 4


def test_messages_are_read_in_the_contracts_alone(product):
    readers = [
        name
        for name, tree in product.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("model_validate_json", "validate_json")
    ]
    assert {name for name in readers if not name.startswith(PLATFORM)} <= {
        WHEEL + "contracts/commands.py",
        WHEEL + "contracts/events.py",
    }


def test_states_are_decided_in_two_modules_of_the_queue_manager(product):
    deciders = {
        name
        for name, tree in product.items()
        if not name.startswith(PLATFORM)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Attribute) and target.attr == "state" and ast.unparse(target.value) != "self"
    }
    assert deciders == {QUEUE_MANAGER + "decisions.py", QUEUE_MANAGER + "states.py"}


def test_queries_lie_in_modules_of_their_own(product):
    elsewhere = [
        name
        for name, tree in product.items()
        if name.startswith(("libs/", "services/")) and not name.endswith("/aql.py")
        for text in strings(tree)
        if QUERY.search(text)
    ]
    assert elsewhere == []
    assert any(QUERY.search(text) for text in strings(product[WHEEL + "arango/aql.py"]))
