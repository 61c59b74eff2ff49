"""Dead letters as records: what was refused, cut when the broker refuses the letter too."""

from streamforge_utils.contracts.dead_letters import DeadLetter
from streamforge_utils.errors import FatalError
from streamforge_utils.pipeline.chain import Letter, Work
from streamforge_utils.pipeline.ports import Output

TRUNCATED = ("truncated", b"1")
TRUNCATED_BYTES = 64 * 1024
TRUNCATED_KEY_BYTES = 1024


def dead_letter(work: Work, letter: Letter, *, step: str, topic: str) -> Output:
    """The record for the workflow's dead-letter topic (contract, section 4)."""
    source, partition = work.partition
    dead = DeadLetter(
        step=step,
        code=letter.code,
        reason=letter.reason,
        topic=source,
        partition=partition,
        offset=letter.offset,
        key=letter.key,
        value=letter.value,
        position=letter.position,
        original_headers=letter.headers,
    )
    return Output(topic, letter.key, letter.value, dead.headers(), 0)


def cut(letter: Letter, reason: str) -> None:
    """Make a letter smaller that is too large itself: its value first, then its key.

    Raises:
        FatalError: both are small already.
    """
    if letter.headers != (TRUNCATED,):
        letter.value = (letter.value or b"")[:TRUNCATED_BYTES]
        letter.headers = (TRUNCATED,)
    elif len(letter.key or b"") > TRUNCATED_KEY_BYTES:
        letter.key = (letter.key or b"")[:TRUNCATED_KEY_BYTES]
    else:
        raise FatalError(f"a dead letter of {TRUNCATED_BYTES} bytes at the most is refused: {reason}")
