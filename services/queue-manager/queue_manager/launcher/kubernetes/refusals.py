"""What a refused call means for the controller: again later, or never. Pure.

The reasons are those of the API's Status object (``metav1.StatusReason``).
"""

import re
from collections.abc import Sequence

from queue_manager.launcher.interface import JobRefused, LauncherUnavailable
from queue_manager.launcher.kubernetes.api import ClusterAway, ClusterError

_ADMISSION = re.compile(r"^admission webhook \"|ValidatingAdmissionPolicy '.*denied request", re.DOTALL)
"""A policy of the cluster may refuse with any status (its author's choice, 422 by default)."""
_AGAIN: Sequence[tuple[int, str, str, str]] = (
    (403, "exceeded quota", "quota-exceeded", ""),
    (403, " cannot ", "not-authorized", ""),
    (404, "namespaces", "launcher-unreachable", "the namespace of KUBERNETES_NAMESPACE is not there"),
    (409, "", "launcher-unreachable", "the cluster is changing it just now"),
)
"""HTTP status, a word of the message -> code and what it means, if the code alone does not say it: refusals that
somebody, or time, can lift."""


def refusal(error: ClusterError) -> JobRefused | LauncherUnavailable:
    """The launcher's error for one of the cluster's."""
    if isinstance(error, ClusterAway):
        return LauncherUnavailable(str(error))
    if _ADMISSION.search(str(error)):
        return JobRefused("admission-refused", str(error))
    for status, word, code, what in _AGAIN:
        if error.status == status and word in str(error):
            return LauncherUnavailable(f"{what}: {error}" if what else str(error), code=code)
    if error.status == 422:
        return JobRefused("invalid", str(error))
    if error.status in (400, 403):
        return JobRefused("admission-refused", str(error))
    return LauncherUnavailable(str(error))
