"""A record on its way to the dead letters: original bytes, and headers that say why and from where."""

from collections.abc import Iterable
from dataclasses import dataclass

REASON = "reason"
CODE = "code"
STEP = "step"
TOPIC = "source-topic"
PARTITION = "source-partition"
OFFSET = "source-offset"
POSITION = "source-position"
FOR_STEP = "for-step"
ORIGIN = "origin"
"""Header of a redriven record: ``<topic>/<partition>/<offset>`` of the original."""

Headers = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Identity is (step, topic, partition, offset); a record of a source has a ``position`` instead of an offset."""

    step: str
    code: str
    reason: str
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    position: str | None = None
    original_headers: Headers = ()

    def headers(self) -> Headers:
        """The headers of the dead letter; those of the original record follow ours."""
        own = [
            (CODE, self.code.encode()),
            (REASON, self.reason.encode(errors="replace")),
            (STEP, self.step.encode()),
            (TOPIC, self.topic.encode()),
            (PARTITION, str(self.partition).encode()),
            (OFFSET, str(self.offset).encode()),
        ]
        if self.position is not None:
            own.append((POSITION, self.position.encode()))
        names = {name for name, _ in own}
        return (*own, *((name, value) for name, value in self.original_headers if name not in names))

    @classmethod
    def read(cls, key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes]]) -> "DeadLetter":
        """The dead letter of a record of the dead-letter topic.

        Raises:
            ValueError: a header of ours is missing or not a number.
        """
        given = list(headers)
        ours = {name: data.decode("utf-8", "replace") for name, data in reversed(given)}
        try:
            return cls(
                step=ours[STEP],
                code=ours[CODE],
                reason=ours[REASON],
                topic=ours[TOPIC],
                partition=int(ours[PARTITION]),
                offset=int(ours[OFFSET]),
                key=key,
                value=value,
                position=ours.get(POSITION),
                original_headers=tuple(
                    (name, data)
                    for name, data in given
                    if name not in (CODE, REASON, STEP, TOPIC, PARTITION, OFFSET, POSITION)
                ),
            )
        except KeyError as error:
            raise ValueError(f"not a dead letter: the header {error} is missing") from error
