"""``python -m streamforge_local.kubernetes [PROGRAM...]``: builds what is missing and prints the folder it lies in."""

import sys

from streamforge_local.failures import StackError
from streamforge_local.kubernetes.programs import CONTROL_PLANE, KWOK, find_programs


def main() -> None:
    """By default all that a control plane with fake nodes needs."""
    try:
        print(find_programs(sys.argv[1:] or (*CONTROL_PLANE, KWOK)))
    except StackError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
