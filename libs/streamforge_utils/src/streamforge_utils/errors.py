"""Every error that crosses a module border; its class is what must be done about it, its code what is told.

StreamForgeError
 ├─ ConfigurationError   exit 78, never retried: settings, rights or input that can never work
 ├─ TransientError       retried by the runner as long as it takes (``retry_after``: seconds, if named)
 │   └─ NotConnected     the other side is away; the adapter connects again when it is called again
 ├─ PermanentError       this one record can never be processed: it goes to the dead letters
 ├─ BatchError           only the named values of a batch failed; the others are done
 ├─ FencedError          a successor lives (exit 75): nothing more may be written by this life
 └─ FatalError           stop without a commit, exit 70 (counted by the Job)

Adapters translate a vendor's errors into these, keeping the vendor's as ``__cause__``: none leaves its adapter.
"""

from collections.abc import Mapping

MAX_SHOWN = 256
"""Characters of foreign text (a payload, a server's answer) that a message may carry."""


def shown(text: object) -> str:
    """Foreign text, cut to what a message may carry."""
    whole = str(text)
    return whole if len(whole) <= MAX_SHOWN else whole[:MAX_SHOWN] + "..."


class StreamForgeError(Exception):
    """The root. ``code`` is a stable name from ``contracts.reasons``; the message names the object and what to do."""

    code = "error"
    exit_code = 70

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code


class ConfigurationError(StreamForgeError):
    """Settings, rights or input that can never work: told at once, exit 78, never retried."""

    code = "configuration"
    exit_code = 78


class TransientError(StreamForgeError):
    """It may work later. ``retry_after`` is in seconds, None when the other side named no time."""

    code = "unavailable"
    exit_code = 75

    def __init__(self, message: str, *, code: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after = retry_after


class NotConnected(TransientError):
    """The other side is away; calling again connects again."""


class PermanentError(StreamForgeError):
    """One record that can never be processed; ``code`` is the reason under which it is counted."""

    code = "rejected"


class BatchError(StreamForgeError):
    """Only the values at the indexes in ``failed`` (never empty) were not done; all others were."""

    code = "rejected"

    def __init__(self, failed: Mapping[int, StreamForgeError]) -> None:
        if not failed:
            raise ValueError("a BatchError names at least one failed value")
        super().__init__(f"{len(failed)} values of the batch failed, the first: {next(iter(failed.values()))}")
        self.failed = dict(failed)


class FencedError(StreamForgeError):
    """A successor took over (or the broker timed the transaction out): this process may not write any more."""

    code = "fenced"
    exit_code = 75


class FatalError(StreamForgeError):
    """Nothing sensible can follow: no commit, exit 70."""

    code = "fatal"
