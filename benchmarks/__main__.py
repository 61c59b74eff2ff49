"""``python -m benchmarks``: measure all of it on stacks of its own, print one table.

Nothing else should run meanwhile.
"""

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import candles, commit_cost, control_plane, pass_through
from benchmarks.figures import Figure, show
from benchmarks.stack import Bench, running, timed_start

ROOT = Path(__file__).resolve().parents[1]
MEASUREMENTS: dict[str, Callable[[Bench], Sequence[Figure]]] = {
    "starts": control_plane.start_figures,
    "pings": control_plane.ping_figures,
    "candles": candles.measure,
    "pass-through": lambda bench: pass_through.measure(bench.kafka),
    "commits": lambda bench: commit_cost.measure(bench.kafka),
    "reads": control_plane.read_figures,
}
SUBMITS, START = "submits", "start"


def main(wanted: Sequence[str]) -> int:
    """Measure what is named (all when nothing is); 1 when a promise is missed."""
    unknown = set(wanted) - {*MEASUREMENTS, SUBMITS, START}
    if unknown:
        known = ", ".join((*MEASUREMENTS, SUBMITS, START))
        sys.exit(f"no such measurement: {', '.join(sorted(unknown))}; there are {known}")
    os.environ["TARGETS_DIRS"] = f"{ROOT / 'services'}{os.pathsep}{ROOT / 'benchmarks' / 'targets'}"
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="streamforge-bench-") as name:
        folder = Path(name)
        names = [name for name in MEASUREMENTS if not wanted or name in wanted]
        if names:
            with running(folder / "main") as bench:
                for measurement in names:
                    sys.stderr.write(f"measuring {measurement} ...\n")
                    figures += MEASUREMENTS[measurement](bench)
        if not wanted or SUBMITS in wanted:
            sys.stderr.write("measuring submits ...\n")
            os.environ["MAX_RUNNING"] = str(control_plane.PLACES)
            with running(folder / "submits") as bench:
                figures += control_plane.submit_figures(bench)
            del os.environ["MAX_RUNNING"]
        if not wanted or START in wanted:
            timed_start(folder / "start")
            seconds = min(timed_start(folder / "start") for _ in range(3))
            figures.append(Figure("start of the whole stack, warm", f"{seconds:.2f} s", "", "< 3 s", seconds < 3))
    show(figures)
    return 1 if any(figure.is_met is False for figure in figures) else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
