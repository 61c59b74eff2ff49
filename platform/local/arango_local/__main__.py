"""`python -m arango_local`."""

from arango_local.process import main

if __name__ == "__main__":
    main()
