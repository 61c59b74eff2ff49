"""Every AQL text of the wheel. Values are bound, never formatted in."""

from typing import Final

REMOVE_EQUAL: Final = """
FOR document IN @@collection
    FILTER document.@field == @value
    LIMIT @limit
    REMOVE document IN @@collection
"""
"""Limited, so that one request stays short however many documents there are: call it until it removes none."""
