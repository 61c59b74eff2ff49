"""Log lines: one JSON object each on stderr, with what was bound (``queue_id``, ``step``, ``run``) in every one.

Only ``configure``, called by a ``main``, changes anything: nothing happens at import, so a forked worker starts clean.
Modules say ``structlog.get_logger(component="...")`` and log a snake_case event with fields. Secrets never get out: a
SecretStr, a field that is named like a secret and the password of a URL are masked in whatever is logged.
"""

import logging
import re
import sys
import time
from collections.abc import Mapping
from typing import Any

import structlog
from pydantic import SecretBytes, SecretStr
from structlog.typing import EventDict, WrappedLogger

from streamforge_utils import codec
from streamforge_utils.errors import PermanentError

MASK = "**********"
REPEAT_S = 10.0
"""A library's line is written at most once in so many seconds: while a broker is away aiokafka logs ten a second."""

_SECRET_NAME = re.compile(r"password|passwd|secret|token|api_?key|private_?key|credential|authorization|cookie", re.I)
_URL_PASSWORD = re.compile(r"(?<=://)([^\s/@:]*):[^\s/@]+@")
_PLAIN = (int, float, bool, type(None))


def configure(*, level: str = "INFO", debug: bool = False, **bound: str) -> None:
    """Set up the process' log lines; ``bound`` goes into every one. Called once, by ``main``; again replaces it.

    ``debug`` means level DEBUG, and lines for people instead of JSON (so does a terminal). The lines of libraries
    (aiokafka, uvicorn, asyncio) go the same way, from WARNING on, from INFO on under ``debug``.

    Raises:
        ValueError: ``level`` is not one of the standard library's names.
    """
    least = logging.DEBUG if debug else logging.getLevelNamesMapping().get(level.upper())
    if least is None:
        raise ValueError(f"{level!r} is no log level; write DEBUG, INFO, WARNING, ERROR or CRITICAL")
    for_people = debug or sys.stderr.isatty()
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(**bound)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            # Not dict_tracebacks, not rich: both show the values of local variables, secrets among them.
            structlog.processors.format_exc_info,
            redact,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()) if for_people else _to_json,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr)
        if for_people
        else structlog.BytesLoggerFactory(sys.stderr.buffer),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _Forward)]:
        root.removeHandler(handler)
    root.addHandler(_Forward())
    root.setLevel(logging.INFO if debug else max(least, logging.WARNING))


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """The structlog processor that masks secrets and makes every value one that JSON has."""
    return {key: MASK if _SECRET_NAME.search(key) else _safe(value) for key, value in event.items()}


def _safe(value: Any) -> Any:
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, SecretStr | SecretBytes):
        return MASK
    if isinstance(value, Mapping):
        return {str(key): MASK if _SECRET_NAME.search(str(key)) else _safe(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_safe(item) for item in value]
    text = str(value)
    return _URL_PASSWORD.sub(rf"\1:{MASK}@", text) if "://" in text else text


def _to_json(_logger: WrappedLogger, _method: str, event: EventDict) -> bytes:
    try:
        return codec.encode(event)
    except PermanentError:  # a lone surrogate, an integer of more than 64 bits: still better told than lost
        return codec.encode({ascii(key): ascii(value) for key, value in event.items()})


class _Forward(logging.Handler):
    """Hands the standard library's records to structlog, a repeated one only every ``REPEAT_S`` seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[tuple[str, str], float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
            now, key = time.monotonic(), (record.name, str(record.msg))
            if now - self._last.get(key, -REPEAT_S) < REPEAT_S:
                return
            self._last[key] = now
            log = structlog.get_logger(component=record.name)
            log.log(record.levelno, message, exc_info=record.exc_info or None)
        except Exception:  # as every handler of the standard library: a log line never ends a program
            self.handleError(record)
