"""``python -m queue_manager``."""

from queue_manager.main import main

main()
