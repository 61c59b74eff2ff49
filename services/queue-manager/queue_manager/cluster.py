"""``python -m queue_manager.cluster``: what an installation needs in its cluster beside the queue-manager itself.

For whoever sets an installation up, such as the embedded stack: it says whether the cluster can be used, tells the
workers where everything is, tries from a pod whether that is reached, and takes away what the installation left. The
queue-manager never does any of this by itself. A result is JSON on standard output, a refusal one line and the error's
exit code.
"""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from queue_manager.controller.launch import Platform
from queue_manager.launcher.kubernetes.api import ClusterApi, ClusterAway, ClusterError
from queue_manager.launcher.kubernetes.manifest import METRICS_PORT
from queue_manager.launcher.kubernetes.preflight import preflight, preflight_pod
from queue_manager.launcher.kubernetes.publication import (
    Publication,
    ensure_namespace,
    open_jobs,
    owner_of,
    publish,
    withdraw,
)
from queue_manager.launcher.kubernetes.settings import KubernetesSettings
from queue_manager.settings import QueueManagerSettings
from queue_manager.store.arango import ArangoStore
from queue_manager.targets import read_targets
from streamforge_utils import codec
from streamforge_utils.arango import ArangoClient
from streamforge_utils.errors import ConfigurationError, StreamForgeError
from streamforge_utils.observability import logs
from streamforge_utils.settings import read_settings

EXIT_UNAVAILABLE = 69
"""``EX_UNAVAILABLE`` of sysexits: the API server does not answer, or says no."""

Result = dict[str, Any]


async def prepare(api: ClusterApi, settings: KubernetesSettings, given: argparse.Namespace) -> Result:
    """Make the namespace unless it is there; where the cluster is, its version, whose ConfigMap is in the namespace."""
    del given
    version = (await api.get("/version"))["gitVersion"]
    if (owner := await owner_of(api, settings)) is None:
        await ensure_namespace(api, settings)
    return {"server": await api.address(), "version": version, "namespace": settings.namespace, "owner": owner}


async def installation(api: ClusterApi, settings: KubernetesSettings, given: argparse.Namespace) -> Result:
    """The installation's id, which is in its store."""
    del api, settings, given
    store = ArangoStore(ArangoClient(read_settings(QueueManagerSettings).arango, threads=2))
    try:
        await store.ensure()
        return {"installation": await store.installation()}
    finally:
        await store.close()


async def tell(api: ClusterApi, settings: KubernetesSettings, given: argparse.Namespace) -> Result:
    """Publish what workers are told, as they see it, then try it from a pod."""
    own = read_settings(QueueManagerSettings)
    target = next((found.target for _, found in sorted(read_targets(own.targets_dirs).all().items())), None)
    if target is None:
        raise ConfigurationError("TARGETS_DIRS holds no target, so there is no image to try the addresses with")
    told = _publication(own, given.installation, changed=dict(given.set), files=dict(given.secret_file))
    await publish(api, settings, told)
    pod = preflight_pod(
        settings, target=target.name, image=target.image, resources=target.resources, installation=told.installation
    )
    reached = f"pods reach kafka at {told.env['KAFKA_BOOTSTRAP_SERVERS']} and the store at {told.env['ARANGO_URL']}"
    try:
        await preflight(api, pod)
    except ClusterError as error:
        if error.status != 403:
            raise
        reached = f"whether {reached} was not tried: {error}"
    return {"preflight": reached}


async def jobs(api: ClusterApi, settings: KubernetesSettings, given: argparse.Namespace) -> Result:
    """How many Jobs of an installation have not ended."""
    return {"jobs": await open_jobs(api, settings, given.installation)}


async def remove(api: ClusterApi, settings: KubernetesSettings, given: argparse.Namespace) -> Result:
    """Remove an installation's Jobs, ConfigMap and Secrets; how many Jobs there were."""
    return {"jobs": await withdraw(api, settings, given.installation)}


def _publication(
    settings: QueueManagerSettings, installation: str, *, changed: Mapping[str, str], files: Mapping[str, Path]
) -> Publication:
    """All that ``Platform.of`` lists, with what is different for pods."""
    platform = Platform.of(settings)
    try:
        texts = {name: {path.name: SecretStr(path.read_text())} for name, path in files.items()}
    except OSError as error:
        raise ConfigurationError(f"a file for a Secret cannot be read: {error}") from error
    return Publication(
        installation=installation,
        env={**platform.env, "METRICS_PORT": str(METRICS_PORT), **changed},
        secret_env=platform.secret_env,
        files=texts,
    )


async def _run(given: argparse.Namespace) -> Result:
    settings = read_settings(KubernetesSettings)
    api = ClusterApi(settings)
    call: Callable[[ClusterApi, KubernetesSettings, argparse.Namespace], Awaitable[Result]] = given.call
    try:
        return await call(api, settings, given)
    finally:
        await api.close()


def _parser() -> argparse.ArgumentParser:
    summary = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m queue_manager.cluster", description=summary)
    commands = parser.add_subparsers(dest="command", required=True, metavar="prepare|installation|tell|jobs|remove")
    made = {}
    for call in (prepare, installation, tell, jobs, remove):
        made[call.__name__] = commands.add_parser(call.__name__, help=(call.__doc__ or "").splitlines()[0])
        made[call.__name__].set_defaults(call=call)
    for name in ("tell", "jobs", "remove"):
        made[name].add_argument("--installation", required=True, help="its id, the label of its objects")
    several: dict[str, Any] = {"action": "append", "default": []}
    made["tell"].add_argument("--set", type=_pair, metavar="NAME=VALUE", help="what is different for pods", **several)
    made["tell"].add_argument("--secret-file", type=_file, metavar="SECRET=PATH", help="a further Secret", **several)
    return parser


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _file(text: str) -> tuple[str, Path]:
    name, path = _pair(text)
    return name, Path(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """One command; 0, or the exit code of what was refused."""
    given = _parser().parse_args(arguments)
    try:
        result = asyncio.run(_run(given))
    except StreamForgeError as error:
        sys.stderr.write(f"{error.message}\n")
        return error.exit_code
    except ClusterError as error:
        what = "" if isinstance(error, ClusterAway) else "the cluster refuses: "
        sys.stderr.write(f"{what}{error}\n")
        return EXIT_UNAVAILABLE
    print(codec.encode(result).decode())
    return 0


if __name__ == "__main__":
    logs.configure(level="ERROR")
    raise SystemExit(main())
