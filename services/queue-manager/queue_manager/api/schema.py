"""``python -m queue_manager.api.schema [FILE]``: the OpenAPI document, as kept in docs/reference/openapi.json."""

import json
import sys
from pathlib import Path

from queue_manager.api.app import create_app


def document() -> str:
    """The OpenAPI document as text, the same at every call."""
    return json.dumps(create_app(None).openapi(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the document to the named file, or print it."""
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(document(), encoding="utf-8")
    else:
        sys.stdout.write(document())


if __name__ == "__main__":
    main()
