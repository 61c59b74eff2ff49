"""The one error of the embedded stack."""


class StackError(Exception):
    """The stack cannot go on; the message is one line that says which part, why, and what to do or where its log is."""
