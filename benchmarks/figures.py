"""A figure, its floor and its target; the table that shows them."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """One row: what was measured, what a bare program needs for the same, and what is promised."""

    name: str
    value: str
    floor: str
    target: str
    is_met: bool | None
    """None: no promise, told for information."""


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of all do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-int(share * 1000) * len(ordered) // 1000) - 1))]


def show(figures: Sequence[Figure]) -> None:
    """Print the table."""
    table = Table("figure", "value", "floor (bare program, same run)", "target", "", box=None, pad_edge=False)
    for f in figures:
        verdict = "" if f.is_met is None else "met" if f.is_met else "MISSED"
        table.add_row(f.name, f.value, f.floor, f.target, verdict)
    Console(width=150, highlight=False).print(table)
