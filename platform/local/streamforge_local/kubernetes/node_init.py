"""First process of a node's namespaces: ``node_init.py PLAN``. Standard library alone, for it is run as a file.

It mounts what the node must have to itself, starts containerd, puts the pause image in, starts the kubelet, and reaps
whatever is left to it. When one of the two ends, the node ends. What it mounts goes with its namespace: everything of
the node ends when this process does.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

READY_TIMEOUT_S = 30.0
POLL_S = 0.02


def main() -> None:
    """Run the node; never returns while it lives."""
    plan = json.loads(Path(sys.argv[1]).read_text())
    _mount("--make-rshared", "/")
    for folder in plan["own"]:
        _mount("-t", "tmpfs", "tmpfs", folder)
    _mount("--make-rshared", "/var/lib/kubelet")
    for number, (path, value) in enumerate(plan["settings"].items()):
        _pretend(Path(plan["folder"]) / f"setting-{number}", Path(path), value)
    programs = {"containerd": _start(plan, "containerd")}
    _import_pause(plan, programs["containerd"])
    programs["kubelet"] = _start(plan, "kubelet")
    names = {process.pid: name for name, process in programs.items()}
    while True:
        pid, status = os.wait()
        if pid in names:
            sys.exit(f"{names[pid]} ended with {os.waitstatus_to_exitcode(status)}; see its log")


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)  # noqa: S603, S607


def _pretend(file: Path, setting: Path, value: str) -> None:
    """The kubelet insists on settings of the kernel: it reads what it wants, and the machine keeps its own."""
    if setting.exists():
        file.write_text(f"{value}\n")
        _mount("--bind", str(file), str(setting))


def _start(plan: dict[str, dict[str, list[str]]], name: str) -> "subprocess.Popen[bytes]":
    with Path(str(plan["log"]), f"{name}.log").open("ab") as log:
        return subprocess.Popen(  # noqa: S603
            plan["commands"][name], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )


def _import_pause(plan: dict[str, dict[str, list[str]]], containerd: "subprocess.Popen[bytes]") -> None:
    """Wait until containerd takes it: the kubelet would end without containerd, and no pod starts without this."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while True:
        done = subprocess.run(plan["commands"]["pause"], capture_output=True, check=False)  # noqa: S603
        if done.returncode == 0:
            return
        if containerd.poll() is not None:
            sys.exit(f"containerd ended with {containerd.returncode}; see its log")
        if time.monotonic() > deadline:
            sys.exit(f"containerd is not ready after {READY_TIMEOUT_S:g} s: {done.stderr.decode().strip()}")
        time.sleep(POLL_S)


if __name__ == "__main__":
    main()
