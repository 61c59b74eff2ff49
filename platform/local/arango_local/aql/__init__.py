"""AQL: text -> tokens -> syntax tree -> Python source -> rows.

Whatever is outside the subset is refused, never approximated.
"""
