"""``python -m queue_manager``."""

import gc

gc.disable()  # what the imports make stays: looking it through takes a fifth of a start; ``main`` turns it on again

from queue_manager.main import main  # noqa: E402

main()
