"""Where programs are found, and how they are built: by a Go that is a script here."""

import os
import re

import pytest

from streamforge_local.failures import StackError
from streamforge_local.kubernetes import programs
from streamforge_local.kubernetes.programs import (
    CONTROL_PLANE,
    KWOK,
    SOURCES,
    find_programs,
    kubernetes_version,
    module_folder,
    programs_folder,
)

GO = """#!/bin/sh
if [ "$1" = version ]; then echo "go version go$VERSION linux/amd64"; exit; fi
echo "$PWD: $*" >> "$CALLS"
echo "go: downloading some/module v1" >&2
[ -z "$BROKEN" ] || { echo "main.go:1: broken" >&2; exit 1; }
while [ "$1" != -o ]; do shift; done
echo '#!/bin/sh' > "$2"; chmod +x "$2"
"""


def program(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text("")
        (folder / name).chmod(0o755)


@pytest.fixture
def go(tmp_path, monkeypatch):
    """A Go of the newest version; its builds are in the file that is returned."""
    calls = tmp_path / "calls"
    program(tmp_path / "bin", "go")
    (tmp_path / "bin/go").write_text(GO)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(calls))
    monkeypatch.setenv("VERSION", "99.1")
    return calls


@pytest.fixture
def no_go(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))


def test_the_version_is_the_modules():
    assert re.fullmatch(r"v1\.\d+\.\d+", kubernetes_version())
    assert f"k8s.io/kubernetes {kubernetes_version()}\n" in (module_folder("kubernetes") / "go.mod").read_text()


def test_the_cache_is_the_user_s(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert programs_folder() == tmp_path / "streamforge" / f"kube-{kubernetes_version()}"


def test_every_package_is_pinned_by_its_module():
    for name, source in SOURCES.items():
        module = module_folder(source.module)
        own = source.package.startswith("./") and (module / source.package / "main.go").is_file()
        assert own or f'"{source.package}"' in (module / "tools.go").read_text(), name
        assert (module / "go.sum").stat().st_size > 0


def test_assets_are_used_when_they_hold_all(tmp_path, no_go):
    program(tmp_path / "assets", *CONTROL_PLANE)
    assets = {"KUBEBUILDER_ASSETS": str(tmp_path / "assets")}
    assert find_programs(CONTROL_PLANE, cache=tmp_path, environ=assets) == tmp_path / "assets"


def test_assets_that_lack_one_are_not_used_and_that_is_told(tmp_path, no_go, capsys):
    program(tmp_path / "assets", *CONTROL_PLANE[:-1])
    program(programs_folder(tmp_path), *CONTROL_PLANE, KWOK)
    assets = {"KUBEBUILDER_ASSETS": str(tmp_path / "assets")}
    assert find_programs((*CONTROL_PLANE, KWOK), cache=tmp_path, environ=assets) == programs_folder(tmp_path)
    assert "lacks kube-scheduler, kwok; not used" in capsys.readouterr().err


def test_the_cache_is_used_without_a_build(tmp_path, no_go):
    program(programs_folder(tmp_path), *CONTROL_PLANE)
    assert find_programs(CONTROL_PLANE, cache=tmp_path, environ={}) == programs_folder(tmp_path)


def test_what_is_missing_is_built_with_its_version_in_its_module(tmp_path, go, capsys):
    program(programs_folder(tmp_path), "etcd")
    folder = find_programs(("etcd", "kube-scheduler", "kwok"), cache=tmp_path, environ={})
    scheduler, kwok = go.read_text().splitlines()
    assert scheduler.startswith(f"{module_folder('kubernetes')}: build -mod=readonly ")
    assert f"-X k8s.io/component-base/version.gitVersion={kubernetes_version()} " in scheduler
    assert scheduler.endswith("k8s.io/kubernetes/cmd/kube-scheduler")
    assert kwok.startswith(f"{module_folder('kwok')}: build ")
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "etcd", "kube-scheduler", "kwok"]
    assert re.search(r"building kube-scheduler .*\n.*kube-scheduler took \d+ s", capsys.readouterr().err)


def test_a_failed_build_tells_go_s_last_words_and_leaves_no_program(tmp_path, go, monkeypatch):
    monkeypatch.setenv("BROKEN", "1")
    with pytest.raises(StackError, match=r"etcd cannot be built with .*/go: main\.go:1: broken; .*KUBEBUILDER_ASSETS"):
        find_programs(("etcd",), cache=tmp_path, environ={})
    assert [path.name for path in programs_folder(tmp_path).iterdir()] == [".lock"]


def test_a_missing_go_is_told(tmp_path, no_go):
    with pytest.raises(StackError, match=r"built with Go, which is missing; install 1\.\d+.* KUBEBUILDER_ASSETS"):
        find_programs(("etcd",), cache=tmp_path, environ={})


def test_a_go_that_is_too_old_is_told_with_both_versions(tmp_path, go, monkeypatch):
    monkeypatch.setenv("VERSION", "1.9.3")
    with pytest.raises(StackError, match=r"/go is Go 1\.9\.3, too old; install 1\.\d+.* or newer"):
        find_programs(("etcd",), cache=tmp_path, environ={})
    assert not go.exists()


def test_a_build_that_takes_for_ever_is_told(tmp_path, go, monkeypatch):
    monkeypatch.setattr(programs, "BUILD_TIMEOUT_S", 0)
    with pytest.raises(StackError, match="building etcd took more than 0 s"):
        find_programs(("etcd",), cache=tmp_path, environ={})


def test_an_unknown_program_is_told_with_the_known_ones(tmp_path):
    with pytest.raises(StackError, match="no program kubelt; there are etcd, kube-apiserver"):
        find_programs(("etcd", "kubelt"), cache=tmp_path, environ={})
