"""``python -m streamforge_local.lean MODULE``: run a module as in its image, without packages that are here for others.

structlog and PyJWT load rich and cryptography when these happen to be installed, as they are for the stack's own
tools: 10 to 25 MB in each process, for colours and signatures that nobody uses.
"""

import runpy
import sys
from collections.abc import Iterator
from contextlib import contextmanager

UNUSED = ("rich", "cryptography")


@contextmanager
def lean() -> Iterator[None]:
    """As if ``UNUSED`` were not installed. Whoever wants one can import it afterwards."""
    absent = [name for name in UNUSED if name not in sys.modules]
    sys.modules |= dict.fromkeys(absent)  # type: ignore[arg-type]  # None: "cannot be imported" (Python's reference)
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


if __name__ == "__main__":
    del sys.argv[0]
    with lean():
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
