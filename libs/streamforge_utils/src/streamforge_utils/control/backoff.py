"""How long control and telemetry wait between tries while Kafka is away."""

import random
from collections.abc import Iterator

FIRST_S = 0.1
LONGEST_S = 5.0


def pauses() -> Iterator[float]:
    """Endless pauses in seconds, doubling up to ``LONGEST_S``, each cut by up to a half so that a fleet spreads out."""
    longest = FIRST_S
    while True:
        yield longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, keeps no secret
        longest = min(longest * 2, LONGEST_S)
