"""Which Kubernetes is taken, and which is refused."""

import pytest

from queue_manager.launcher.interface import LauncherUnavailable
from queue_manager.launcher.kubernetes.api import ClusterError
from queue_manager.launcher.kubernetes.version import NEEDED, Release, Version, release_of


class Server:
    """The one call that is asked."""

    def __init__(self, version):
        self.version, self.asked = version, 0

    async def get(self, path):
        self.asked += 1
        if self.version is None:
            raise ClusterError(403, "Forbidden", "not for you")
        return {"gitVersion": self.version}


@pytest.mark.parametrize(
    ("text", "release"),
    [("v1.34.4", (1, 34)), ("v1.33.5-gke.1", (1, 33)), ("1.31+", (1, 31)), ("v2.0.0", (2, 0)), ("not for you", None)],
)
def test_a_version_is_read(text, release):
    assert release_of(text) == (None if release is None else Release(*release))


@pytest.mark.parametrize("version", [f"v{NEEDED}.0", "v1.40.1", None])
async def test_one_that_is_new_enough_or_does_not_say_is_taken_and_asked_once(version):
    server = Server(version)
    checked = Version(server)
    await checked.check()
    await checked.check()
    assert server.asked == 1


async def test_one_that_is_too_old_is_refused_with_what_is_needed():
    with pytest.raises(LauncherUnavailable, match=r"v1\.33\.5-gke\.1; Jobs need 1\.34 or later") as refused:
        await Version(Server("v1.33.5-gke.1")).check()
    assert refused.value.code == "configuration"
