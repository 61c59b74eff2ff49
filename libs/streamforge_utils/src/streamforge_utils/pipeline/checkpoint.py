"""What a commit keeps beside a partition's offset: counters, processors' state, a source's position.

The format is JSON with one-letter names: ``c`` counters [read, stored, dead_lettered, written, {dropped}], ``s``
states, ``p`` position, ``d`` done, ``l`` launch. Kafka's limit is the broker's ``offset.metadata.max.bytes``, 4,096 by
default.
"""

from typing import Any

from streamforge_utils import codec
from streamforge_utils.contracts.events import Counters
from streamforge_utils.errors import ConfigurationError, FatalError
from streamforge_utils.pipeline.ports import Metadata

MAX_BYTES = 4096


def encode(metadata: Metadata, *, step: str) -> str:
    """The metadata of one partition's offset.

    Raises:
        ConfigurationError: longer than a commit may carry (code ``state-too-large``).
    """
    c = metadata.counters
    fields: dict[str, Any] = {"c": [c.read, c.stored, c.dead_lettered, c.written, c.dropped]}
    if metadata.states:
        fields["s"] = metadata.states
    if metadata.position is not None:
        fields["p"] = metadata.position
    if metadata.is_done:
        fields["d"] = True
    if metadata.launch > 1:
        fields["l"] = metadata.launch
    data = codec.encode(fields)
    if len(data) > MAX_BYTES:
        raise ConfigurationError(
            f"{step}: the state of its processors and its position need {len(data)} bytes,"
            f" a commit carries {MAX_BYTES}; choose smaller params",
            code="state-too-large",
        )
    return data.decode()


def decode(text: str, *, step: str) -> Metadata:
    """What ``encode`` wrote; the empty text is a fresh start.

    Raises:
        FatalError: not written by ``encode``: somebody else commits under this group.
    """
    if not text:
        return Metadata(Counters(), {}, None, is_done=False)
    try:
        fields = codec.loads(text)
        read, stored, dead_lettered, written, dropped = fields["c"]
    except (ValueError, KeyError, TypeError) as error:
        raise FatalError(
            f"{step}: what is stored beside its offset was not written by StreamForge: {text[:80]!r}"
        ) from error
    counters = Counters(read=read, stored=stored, dead_lettered=dead_lettered, written=written, dropped=dropped)
    done, launch = fields.get("d", False), fields.get("l", 1)
    return Metadata(counters, fields.get("s", {}), fields.get("p"), is_done=done, launch=launch)


def add(total: Counters, more: Counters) -> None:
    """Count ``more`` into ``total``."""
    total.read += more.read
    total.stored += more.stored
    total.dead_lettered += more.dead_lettered
    total.written += more.written
    for reason, count in more.dropped.items():
        total.dropped[reason] = total.dropped.get(reason, 0) + count
