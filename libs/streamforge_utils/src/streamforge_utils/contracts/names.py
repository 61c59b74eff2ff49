"""Every name of StreamForge: workflows, topics, Jobs, collections, producers, groups (contract, section 1).

Pure functions; no other place builds one of these names. A part that has to be cut ends in a 4-character hash of the
whole part, so that two names never meet.
"""

import base64
import hashlib
import re
import secrets
import string
from collections.abc import Mapping
from datetime import datetime

from streamforge_utils.contracts.time_range import TimeRange

ALPHABET = string.ascii_lowercase + string.digits
SHORT_ID_LENGTH = 6
MAX_QUEUE_ID = 63  # a Kubernetes label's value
MAX_JOB = 57  # an Indexed Job adds `-<ordinal>` and its pods must stay DNS labels of 63
MAX_TOPIC = 249  # Kafka
MAX_COLLECTION = 128  # ArangoDB's traditional names: 256 bytes, halved for index and view names made of them
DEFAULT_STREAM = "data"
DEAD_LETTER = "dead-letter"

_HASH_LENGTH = 4
_STEP = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?\Z")
_STREAM = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?\Z")
_COLLECTION = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,127}\Z")


def short_id() -> str:
    """Six random characters of ``[a-z0-9]``; the store makes them unique."""
    number = secrets.randbelow(len(ALPHABET) ** SHORT_ID_LENGTH)  # one draw: six cost half a millisecond
    drawn = ""
    for _ in range(SHORT_ID_LENGTH):
        number, digit = divmod(number, len(ALPHABET))
        drawn += ALPHABET[digit]
    return drawn


def _cut(part: str, length: int) -> str:
    if len(part) <= length:
        return part
    digest = base64.b32encode(hashlib.sha256(part.encode()).digest()).decode().lower()[:_HASH_LENGTH]
    return part[: length - _HASH_LENGTH] + digest


def _label(text: str, *, keep: str = "_") -> str:
    """``text`` in lower case with every run of other characters than ``[a-z0-9]`` and ``keep`` as one hyphen."""
    return re.sub(rf"[^a-z0-9{re.escape(keep)}]+", "-", text.lower()).strip("-_")


def queue_id(symbol: str, workflow_type: str, start: datetime, short: str) -> str:
    """A workflow's id, ``wf-<symbol>-<type>-<date>-<short>``: at most 63 of ``[a-z0-9_-]``, a label's value."""
    tail = f"-{start:%Y%m%d}-{short}"
    room = MAX_QUEUE_ID - len("wf-") - len("-") - len(tail)
    type_part = _cut(_label(workflow_type), room // 2)
    return f"wf-{_cut(_label(symbol) or 'x', room - len(type_part))}-{type_part}{tail}"


def short_of(queue: str) -> str:
    """The short id at the end of a queue id."""
    return queue.rsplit("-", 1)[-1]


def stream_topic(queue: str, stream: str = DEFAULT_STREAM, *, prefix: str = "") -> str:
    """The topic of a workflow's stream: ``<queue_id>-<stream>``."""
    return f"{prefix}{queue}-{stream}"


def dead_letter_topic(queue: str, *, prefix: str = "") -> str:
    """The topic of a workflow's dead letters."""
    return f"{prefix}{queue}-{DEAD_LETTER}"


def is_step(name: str) -> bool:
    """Whether a step may be called so: at most 32 of ``[a-z0-9-]``, no hyphen at the ends."""
    return _STEP.match(name) is not None


def is_stream(name: str) -> bool:
    """Whether a stream may be called so; ``dead-letter`` is taken."""
    return _STREAM.match(name) is not None and name != DEAD_LETTER


def is_collection(name: str) -> bool:
    """Whether ArangoDB takes ``name`` by its traditional rule (a letter first, then letters, digits, ``_``, ``-``)."""
    return _COLLECTION.match(name) is not None


def collection(symbol: str, workflow_type: str, time_range: TimeRange | None, submitted: datetime) -> str:
    """The collection a workflow stores in: ``<symbol>_<type>_<yyyy_mm_dd>``; a leading digit gets ``c_``."""
    start = time_range.start if time_range else submitted
    head = re.sub(r"[^a-z0-9]+", "_", f"{symbol}_{workflow_type}".lower()).strip("_") or "x"
    if not head[0].isalpha():
        head = "c_" + head
    tail = f"_{start:%Y_%m_%d}"
    return _cut(head, MAX_COLLECTION - len(tail)) + tail


def job(step: str, symbol: str, short: str, launch: int) -> str:
    """A launch's Job: ``job-<step>-<symbol>-<short>``, from the second launch on ``...-<launch>``; <= 57."""
    tail = f"-{short}" if launch == 1 else f"-{short}-{launch}"
    room = MAX_JOB - len("job-") - len("-") - len(tail)
    symbol_part = _cut(_label(symbol, keep="") or "x", min(16, room // 2))
    return f"job-{_cut(_label(step, keep=''), room - len(symbol_part))}-{symbol_part}{tail}"


def producer(step: str, short: str, ordinal: int, replicas: int) -> str:
    """Who an event is from: ``<step>__<short>``, with replicas ``<step>__<short>-<ordinal>``."""
    return f"{step}__{short}" if replicas == 1 else f"{step}__{short}-{ordinal}"


def group(queue: str, step: str) -> str:
    """Under which group a step's offsets are kept (nobody ever joins it)."""
    return f"{queue}-{step}"


def transactional_id(queue: str, step: str, launch: int, ordinal: int) -> str:
    """Who writes in transactions: one ordinal of one launch."""
    return f"{queue}-{step}-{launch}-{ordinal}"


def labels(*, queue: str, step: str, launch: int, installation: str, target: str) -> Mapping[str, str]:
    """The labels of every object of a launch: ours, and the recommended ``app.kubernetes.io/*``."""
    return {
        "app": "streamforge",
        "queue_id": queue,
        "step": step,
        "launch": str(launch),
        "installation": installation,
        "app.kubernetes.io/name": target,
        "app.kubernetes.io/instance": queue,
        "app.kubernetes.io/component": step,
        "app.kubernetes.io/part-of": "streamforge",
        "app.kubernetes.io/managed-by": "streamforge-queue-manager",
    }
