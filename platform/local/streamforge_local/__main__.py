"""``python -m streamforge_local up|down|clean|status|demo``: the embedded stack from the command line."""

import argparse
import os
import runpy
import sys
import time
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from streamforge_local.failures import StackError
from streamforge_local.kafka.broker import Security
from streamforge_local.paths import Home
from streamforge_local.stack import daemon, start
from streamforge_local.stack.parts import ALL_PARTS, PARTS

SECURITY = "STREAMFORGE_KAFKA_SECURITY"
NOT_RUNNING = 3
"""Exit code of ``status``, as the LSB has it for a program that does not run."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given[:1] == ["demo"]:
        sys.argv = ["streamforge_local demo", *given[1:]]
        runpy.run_module("streamforge_local.demo", run_name="__main__", alter_sys=True)
        return 0
    options = _parser().parse_args(given)
    home = Home.from_environment()
    try:
        return _run(options, home)
    except StackError as error:
        sys.stderr.write(f"{error}\n")
    except OSError as error:
        sys.stderr.write(f"stack: {error}\n")
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m streamforge_local", description="The embedded stack.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="up|down|clean|status|demo")
    up = commands.add_parser("up", help="start the stack in the background; returns when it is ready")
    up.add_argument("--parts", nargs="+", choices=ALL_PARTS, help="only these parts")
    commands.add_parser("down", help="stop the stack; its data stays")
    commands.add_parser("clean", help="stop the stack and remove its data")
    commands.add_parser("status", help="what runs, and where")
    commands.add_parser("demo", help="a workflow from start to end")
    supervise = commands.add_parser("supervise")
    supervise.add_argument("--security", choices=("plaintext", "scram"), default="plaintext")
    supervise.add_argument("--parts", nargs="+", choices=ALL_PARTS, default=PARTS)
    supervise.add_argument("--advertised")
    return parser


def _run(options: argparse.Namespace, home: Home) -> int:
    if options.command == "up":
        return _up(home, options.parts)
    if options.command == "down":
        print(start.stop(home))
        return 0
    if options.command == "clean":
        print(start.clean(home))
        return 0
    if options.command == "supervise":
        given = {"security": options.security, "parts": options.parts, "advertised": options.advertised}
        return daemon.supervise(home, **given)
    return _status(home)


def _up(home: Home, parts: Sequence[str] | None) -> int:
    begin = time.monotonic()
    began = start.start(home, security=_security(), parts=parts)
    took = f"The stack is ready after {time.monotonic() - begin:.1f} s:"
    print("The stack runs already:" if began.ran_already else took)
    _show(began.state)
    for note in began.notes:
        print(note)
    print(f"Addresses and log-in for clients: {home.local_env}")
    return 0


def _status(home: Home) -> int:
    state = daemon.read_state(home)
    if state is None:
        print("No stack runs; start it with `make up`.")
        return NOT_RUNNING
    _show(state)
    for note in start.notes(home) if state.launcher == "kubernetes" else ():
        print(note)
    return 0 if all(part.state == "ready" for part in state.parts) else 1


def _show(state: daemon.StackState) -> None:
    table = Table(box=None, pad_edge=False)
    for title in ("part", "address", "state", "restarts", "log"):
        # An address or a path that is broken in two cannot be copied.
        table.add_column(title, no_wrap=True, overflow="fold")
    for part in state.parts:
        table.add_row(part.name, part.address, part.state, str(part.restarts), part.log)
    width = None if sys.stdout.isatty() else 250
    Console(width=width, soft_wrap=True, highlight=False).print(table)
    for part in state.parts:
        if part.reason:
            print(part.reason)


def _security() -> Security:
    named = os.environ.get(SECURITY) or "plaintext"
    if named == "scram":
        return "scram"
    if named == "plaintext":
        return "plaintext"
    raise StackError(f"kafka: {SECURITY}={named!r} is not known; give plaintext or scram")


if __name__ == "__main__":
    raise SystemExit(main())
