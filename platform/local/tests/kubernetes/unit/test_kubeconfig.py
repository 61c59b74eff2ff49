"""Kubeconfig files: what is written is read again; what cannot be used is told in one line."""

import base64

import pytest
import yaml

from streamforge_local.failures import StackError
from streamforge_local.kubernetes.kubeconfig import Access, read_kubeconfig, write_kubeconfig
from streamforge_local.kubernetes.pki import Pair

URL = "https://127.0.0.1:6443"
BY_CERTIFICATE = Access(URL, "the authority\n", "someone", Pair("a certificate\n", "a key\n"))
BY_TOKEN = Access(URL, "the authority\n", "robot", token="a token")


@pytest.mark.parametrize("access", [BY_CERTIFICATE, BY_TOKEN], ids=["certificate", "token"])
def test_what_is_written_is_read_again(tmp_path, access):
    path = write_kubeconfig(tmp_path / "conf" / "kubeconfig", access)
    assert read_kubeconfig(path) == access


def test_only_the_owner_can_read_it_also_when_it_is_written_again(tmp_path):
    path = tmp_path / "kubeconfig"
    path.write_text("")
    path.chmod(0o644)
    write_kubeconfig(path, BY_CERTIFICATE)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["kubeconfig"]


def test_the_file_is_what_kubernetes_programs_read(tmp_path):
    config = yaml.safe_load(write_kubeconfig(tmp_path / "k", BY_TOKEN, namespace="team").read_text())
    assert (config["apiVersion"], config["kind"], config["current-context"]) == ("v1", "Config", "streamforge")
    cluster = {"server": URL, "certificate-authority-data": base64.b64encode(b"the authority\n").decode()}
    assert config["clusters"] == [{"name": "streamforge", "cluster": cluster}]
    assert config["users"] == [{"name": "robot", "user": {"token": "a token"}}]
    context = {"cluster": "streamforge", "user": "robot", "namespace": "team"}
    assert config["contexts"] == [{"name": "streamforge", "context": context}]


def test_a_file_of_others_may_name_files_and_have_other_contexts(tmp_path):
    for name in ("ca.crt", "me.crt", "me.key"):
        (tmp_path / name).write_text(f"{name}\n")
    me = {"client-certificate": "me.crt", "client-key": str(tmp_path / "me.key")}
    config = {
        "current-context": "b",
        "clusters": [
            {"name": "one", "cluster": {"server": "https://one"}},
            {"name": "two", "cluster": {"server": "https://two", "certificate-authority": "ca.crt"}},
        ],
        "users": [{"name": "me", "user": me}],
        "contexts": [
            {"name": "a", "context": {"cluster": "one", "user": "nobody"}},
            {"name": "b", "context": {"cluster": "two", "user": "me"}},
        ],
    }
    (tmp_path / "config").write_text(yaml.safe_dump(config))
    assert read_kubeconfig(tmp_path / "config") == Access("https://two", "ca.crt\n", "me", Pair("me.crt\n", "me.key\n"))


def test_a_token_may_lie_in_a_file(tmp_path):
    config = yaml.safe_load(write_kubeconfig(tmp_path / "k", BY_TOKEN).read_text())
    config["users"][0]["user"] = {"tokenFile": "token"}
    (tmp_path / "token").write_text("another\n")
    (tmp_path / "k").write_text(yaml.safe_dump(config))
    assert read_kubeconfig(tmp_path / "k").token == "another"


@pytest.mark.parametrize("text", ["", "current-context: x", "[]", "{"], ids=["empty", "no-context", "list", "broken"])
def test_a_file_that_is_none_is_told_by_its_name(tmp_path, text):
    (tmp_path / "k").write_text(text)
    with pytest.raises(StackError, match=r"the kubeconfig .*/k cannot be read"):
        read_kubeconfig(tmp_path / "k")


def test_a_missing_file_is_told_by_its_name(tmp_path):
    with pytest.raises(StackError, match=r"the kubeconfig .*/none cannot be read"):
        read_kubeconfig(tmp_path / "none")


def test_a_log_in_by_a_program_is_refused(tmp_path):
    config = yaml.safe_load(write_kubeconfig(tmp_path / "k", BY_TOKEN).read_text())
    config["users"][0]["user"] = {"exec": {"command": "log-in"}}
    (tmp_path / "k").write_text(yaml.safe_dump(config))
    with pytest.raises(StackError, match="a client certificate or a token"):
        read_kubeconfig(tmp_path / "k")


def test_secrets_are_not_shown():
    assert "a token" not in repr(BY_TOKEN)
    assert "a key" not in repr(BY_CERTIFICATE)
