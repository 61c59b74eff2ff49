"""``python -m dummy_service``."""

from dummy_service.main import main

main()
