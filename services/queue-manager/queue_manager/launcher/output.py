"""The end of a worker's output, as every launcher shows it in a status (``OrdinalStatus.last_lines``)."""

LAST_LINES = 10
LAST_BYTES = 2048


def last_lines(text: str) -> tuple[str, ...]:
    """The end of an output: at most ``LAST_LINES`` lines and ``LAST_BYTES`` bytes, empty lines left out."""
    end = text.encode()[-LAST_BYTES:].decode(errors="ignore")
    return tuple([line for line in end.splitlines() if line.strip()][-LAST_LINES:])
