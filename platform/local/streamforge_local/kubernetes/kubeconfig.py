"""Where a cluster is and who one is there, and the file in which Kubernetes' programs keep that.

What is written stands alone (no paths in it), so that a file can be copied or mounted; only its owner can read it.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from streamforge_local.failures import StackError
from streamforge_local.kafka.security import write_secret
from streamforge_local.kubernetes.pki import Pair


@dataclass(frozen=True, slots=True)
class Access:
    """A cluster's address, the authority it is trusted by, and a log-in: a client's certificate or a token."""

    url: str
    authority: str = field(repr=False)
    user: str
    pair: Pair | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)


def write_kubeconfig(path: Path, access: Access, *, namespace: str | None = None) -> Path:
    """Write the file, whole or not at all; it is returned."""
    login: dict[str, str] = {}
    if access.pair is not None:
        login = {"client-certificate-data": _encoded(access.pair.public)}
        login["client-key-data"] = _encoded(access.pair.private)
    if access.token is not None:
        login["token"] = access.token
    cluster = {"server": access.url, "certificate-authority-data": _encoded(access.authority)}
    context = {"cluster": "streamforge", "user": access.user} | ({"namespace": namespace} if namespace else {})
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "streamforge", "cluster": cluster}],
        "users": [{"name": access.user, "user": login}],
        "contexts": [{"name": "streamforge", "context": context}],
        "current-context": "streamforge",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_secret(path, yaml.safe_dump(config, sort_keys=False))
    return path


def read_kubeconfig(path: Path) -> Access:
    """The current context of a file: certificates and tokens in it or in files that it names.

    Raises:
        StackError: no such file, or it logs in by something else (a program, a password).
    """
    try:
        config = yaml.safe_load(path.read_text())
        context = _entry(config, "context", config["current-context"])
        cluster = _entry(config, "cluster", context["cluster"])
        login = _entry(config, "user", context["user"])
        authority = _material(cluster, "certificate-authority", path.parent)
        certificate = _material(login, "client-certificate", path.parent)
        private = _material(login, "client-key", path.parent)
        token = login.get("token") or (_near(path.parent, login["tokenFile"]).strip() if "tokenFile" in login else None)
    except (OSError, yaml.YAMLError, KeyError, TypeError, binascii.Error, UnicodeDecodeError) as error:
        raise StackError(f"kubernetes: the kubeconfig {path} cannot be read: {error!r}; check KUBECONFIG") from error
    pair = Pair(certificate, private) if certificate and private else None
    if authority is None or (pair is None and token is None):
        raise StackError(
            f"kubernetes: the kubeconfig {path} needs a certificate authority and a client certificate or a token; "
            "use one of a service account"
        )
    return Access(cluster["server"], authority, context["user"], pair, token)


def _entry(config: Mapping[str, Any], kind: str, name: str) -> dict[str, Any]:
    found: dict[str, dict[str, Any]] = {entry["name"]: entry[kind] for entry in config[f"{kind}s"]}
    return found[name]


def _material(entry: Mapping[str, str], name: str, folder: Path) -> str | None:
    """The text beside ``<name>-data``, or the file that ``<name>`` names."""
    if data := entry.get(f"{name}-data"):
        return base64.b64decode(data).decode()
    return _near(folder, entry[name]) if entry.get(name) else None


def _near(folder: Path, name: str) -> str:
    return (folder / name).read_text().strip() + "\n"


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
