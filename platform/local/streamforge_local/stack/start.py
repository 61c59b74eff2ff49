"""``make up`` from start to end: the stack and, when its workflows run as Jobs in a cluster, what it needs there.

``daemon`` starts processes on this machine, ``cluster`` asks and tells a cluster; here is their order.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from streamforge_local.failures import StackError
from streamforge_local.kafka.broker import Security
from streamforge_local.paths import Home
from streamforge_local.stack import cluster, daemon
from streamforge_local.stack.parts import CLUSTER_PARTS, PARTS, QueueManagerPart, build_parts

LAUNCHER = "LAUNCHER"


@dataclass(frozen=True, slots=True)
class Started:
    """A stack that runs. ``notes``: sentences about the cluster in which its workflows run."""

    state: daemon.StackState
    ran_already: bool
    notes: tuple[str, ...] = ()


def launcher(environ: Mapping[str, str] = os.environ) -> daemon.Launcher:
    """How workflows are to run; raises StackError for a name that is none."""
    named = environ.get(LAUNCHER) or "process"
    if named not in ("process", "kubernetes"):
        raise StackError(f"queue-manager: {LAUNCHER}={named!r} is not known; give process or kubernetes")
    return cast(daemon.Launcher, named)


def start(home: Home, *, security: Security, parts: Sequence[str] | None = None) -> Started:
    """Start the stack unless it runs, with the launcher that the environment names.

    Raises:
        StackError: in one line why it cannot start; nothing of it runs then.
    """
    wanted = launcher()
    if (state := daemon.read_state(home)) is not None:
        if state.phase == "ready" and state.launcher != wanted:
            raise StackError(
                f"stack: it runs already, with {LAUNCHER}={state.launcher}, not {wanted}; `make down` stops it"
            )
    if wanted == "process":
        return Started(*daemon.up(home, security=security, parts=parts or PARTS))
    if parts is not None and "queue-manager" not in parts:
        raise StackError(f"stack: {LAUNCHER}=kubernetes is the queue-manager's, and --parts leaves it out")
    return _start_for_cluster(home, security, parts or CLUSTER_PARTS)


def _start_for_cluster(home: Home, security: Security, parts: Sequence[str]) -> Started:
    if daemon.supervisor_pid(home):
        return Started(*daemon.up(home, security=security), notes(home))
    cluster.resolve_kubeconfig()
    named = cluster.named_host()
    found = cluster.prepare(home)
    host = named or cluster.usual_host(found.server)
    left = _leave_former_place(home, found)
    # an address of some other machine or of a gateway: what leads from there to loopback here is not ours
    names = [name for name in parts if name != "relay" or cluster.is_own(host)]
    state, ran = daemon.up(home, security=security, parts=names, advertised=host)
    if ran:
        return Started(state, ran, notes(home))
    try:
        (part,) = build_parts(home, ["queue-manager"], security=security, advertised=host)
        tried = cluster.tell(home, found, cast(QueueManagerPart, part))
    except (StackError, OSError) as error:
        daemon.down(home)
        hint = f" ({cluster.ADVERTISED}={host})" if host in str(error) else ""
        raise StackError(f"{error}{hint}") from error
    told = [f"{tried[0].upper()}{tried[1:]}."]
    if security == "plaintext":
        told.append(
            f"Whoever reaches {host} reaches Kafka there without a log-in; "
            "STREAMFORGE_KAFKA_SECURITY=scram asks for one."
        )
    return Started(state, ran, (*left, *notes(home), *told))


def _leave_former_place(home: Home, found: cluster.Found) -> tuple[str, ...]:
    """Take away what the stack has in another cluster or namespace: its workflows go on in this one, not in both."""
    record = cluster.read_record(home)
    if record is None or found.owner is not None:
        return ()
    is_same = (record.server, record.namespace) == (found.server, found.namespace)
    return () if is_same else (_withdrawn(record),)


def notes(home: Home) -> tuple[str, ...]:
    """Where the workflows of a stack with the launcher for a cluster run."""
    record = cluster.read_record(home)
    return () if record is None else (f"Workflows run as Jobs in {record.place}.",)


def stop(home: Home) -> str:
    """Stop the stack; what is to be said."""
    state = daemon.read_state(home)
    if not daemon.down(home):
        return "No stack runs."
    said = "The stack is stopped, its data is kept."
    record = cluster.read_record(home)
    if record is None or state is None or state.launcher != "kubernetes":
        return said
    try:
        left = cluster.jobs_left(record)
    except StackError as error:
        return f"{said}\nWhether Jobs go on in {record.place} is not known: {error}"
    if not left:
        return said
    return (
        f"{said}\nJobs that wait for it in {record.place}: {left}. `make up LAUNCHER=kubernetes` goes on with them, "
        "`make clean` removes them."
    )


def clean(home: Home) -> str:
    """Stop the stack and remove its data and all that it has in a cluster; what is to be said."""
    daemon.down(home)
    said = ["The stack is stopped, its data is removed."]
    if (record := cluster.read_record(home)) is not None:
        said.append(_withdrawn(record))
    daemon.clean(home)
    return "\n".join(said)


def _withdrawn(record: cluster.Record) -> str:
    """Remove what is in a cluster, if that can be reached: one thrown away long ago must not keep anybody here."""
    try:
        return f"Removed from {record.place}: its Jobs ({cluster.remove(record)}), ConfigMap and Secrets."
    except StackError as error:
        mine = f"app=streamforge,installation={record.installation}"
        return (
            f"Its Jobs, ConfigMap and Secrets in {record.place} may be there still ({error}); "
            f"`kubectl delete job,configmap,secret -n {record.namespace} -l {mine}` removes them."
        )
