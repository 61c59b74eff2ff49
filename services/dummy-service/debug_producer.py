"""Sends a command by the command line of the platform's handbook."""

from dummy_service.debug_producer import main

if __name__ == "__main__":
    main()
