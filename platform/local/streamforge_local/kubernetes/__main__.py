"""``python -m streamforge_local.kubernetes [PROGRAM...]``: builds what is missing and prints the folder it lies in."""

import sys

from streamforge_local.failures import StackError
from streamforge_local.kubernetes.node import NODE_PROGRAMS, why_no_node
from streamforge_local.kubernetes.programs import CONTROL_PLANE, KWOK, S3, find_programs


def main() -> None:
    """By default all that the tests need: a control plane, fake nodes, a real one if this machine can be it, S3."""
    node = NODE_PROGRAMS if why_no_node() is None else ()
    try:
        print(find_programs(sys.argv[1:] or (*CONTROL_PLANE, KWOK, S3, *node)))
    except StackError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
