"""A cluster that runs, whoever runs it, reached with an admin's kubeconfig."""

import time
import uuid
from pathlib import Path

from streamforge_local.failures import StackError
from streamforge_local.kubernetes.api import ApiError, KubeApi
from streamforge_local.kubernetes.kubeconfig import Access, read_kubeconfig

INDEX = "batch.kubernetes.io/job-completion-index"
"""Annotation that says which ordinal of an Indexed Job a pod is."""
POLL_S = 0.02
ACCOUNT_TIMEOUT_S = 30.0


class Cluster:
    """What tests need of any cluster."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        """The admin's."""
        self.access = read_kubeconfig(kubeconfig)
        self.api = KubeApi(self.access)
        """Calls as the admin."""

    @property
    def url(self) -> str:
        """The API server's."""
        return self.access.url

    def close(self) -> None:
        """Close the connections."""
        self.api.close()

    def service_account(self, namespace: str, name: str, *, lifetime_s: int = 3600) -> Access:
        """The log-in of a service account, which is made when it is not there: a fresh token."""
        accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        try:
            self.api.post(accounts, {"metadata": {"name": name}})
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
        asked = self.api.post(f"{accounts}/{name}/token", {"spec": {"expirationSeconds": lifetime_s}})
        return Access(self.url, self.access.authority, name, token=asked["status"]["token"])

    def new_namespace(self, prefix: str = "test") -> str:
        """A namespace in which pods can be made at once: its default service account is there.

        Raises:
            StackError: that account did not come; does the controller manager run?
        """
        name = f"{prefix}-{uuid.uuid4().hex[:10]}"
        self.api.post("/api/v1/namespaces", {"metadata": {"name": name}})
        deadline = time.monotonic() + ACCOUNT_TIMEOUT_S
        while not self.has_default_account(name):
            if time.monotonic() > deadline:
                raise StackError(
                    f"kubernetes: namespace {name} has no default service account after {ACCOUNT_TIMEOUT_S:g} s; "
                    "does the controller manager run?"
                )
            time.sleep(POLL_S)
        return name

    def remove_namespace(self, name: str) -> None:
        """Ask for its end; the controller manager takes what is in it away."""
        self.api.delete(f"/api/v1/namespaces/{name}")

    def has_default_account(self, namespace: str = "default") -> bool:
        """Whether pods can be made in the namespace."""
        try:
            self.api.get(f"/api/v1/namespaces/{namespace}/serviceaccounts/default")
        except ApiError as error:
            if error.status != 404:
                raise
            return False
        return True
