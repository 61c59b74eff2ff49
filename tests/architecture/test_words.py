"""The repository speaks of itself alone: no host of a registry, no path of one workplace; its links lead somewhere."""

import re
from pathlib import Path

import pytest

# Split, so that this file does not hold what it looks for.
HOSTS = [
    r"pypi\." + "org",
    "pythonhosted" + r"\.org",
    r"maven\." + "org",
    r"repo\.maven\." + "apache",
    "npmjs" + r"\.(org|com)",
    r"proxy\.golang\." + "org",
    "crates" + r"\.io",
    r"(docker|quay|ghcr|gcr)\." + "io",
    r"dmz\." + "home",
]
PLACES = [r"(?<![\w.])/work" + r"/(main|shared)\b", r"/home/" + r"[a-z]\w*/", r"/Users/" + r"[A-Za-z]\w*/"]
FORBIDDEN = re.compile("|".join([*HOSTS, *PLACES]), re.IGNORECASE)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def test_no_registry_host_and_no_path_of_a_workplace_is_named(texts):
    found = [f"{name}: {match.group()}" for name, text in texts.items() for match in FORBIDDEN.finditer(text)]
    assert found == []


@pytest.mark.parametrize("word", ["files.python" + "hosted.org", "https://py" + "pi.org/simple", "/work" + "/main/x"])
def test_such_a_word_would_be_found(word):
    assert FORBIDDEN.search(f"see {word}")


def test_relative_links_lead_somewhere(root, texts):
    broken = []
    for name, text in texts.items():
        if not name.endswith(".md"):
            continue
        for link in LINK.findall(FENCE.sub("", text)):
            path = link.partition("#")[0]
            if path and not re.match(r"[a-z]+:", path) and not (root / Path(name).parent / path).exists():
                broken.append(f"{name}: {link}")
    assert broken == []
