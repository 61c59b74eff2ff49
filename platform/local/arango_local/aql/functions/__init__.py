"""AQL's functions by name (docs: AQL / Functions). Importing this package fills the table."""

from arango_local.aql.functions import arrays, casts, control, dates, numbers, objects, text
from arango_local.aql.functions.registry import FUNCTIONS, Function

__all__ = ["FUNCTIONS", "Function", "arrays", "casts", "control", "dates", "numbers", "objects", "text"]
