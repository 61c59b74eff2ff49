"""Starts dummy-service by the command of the platform's handbook."""

from dummy_service.main import main

if __name__ == "__main__":
    main()
