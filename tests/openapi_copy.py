"""Writes `docs/openapi.json`, the copy of the server's OpenAPI document: `make openapi`."""

import json
from pathlib import Path

from models.db import Database
from tests.factories.http_server import app_over

COPY = Path(__file__).parents[1] / "docs" / "openapi.json"
NO_DATABASE = "sqlite://"  # nothing is read


def main() -> None:
    """Write the copy."""
    document = app_over(Database(NO_DATABASE), NO_DATABASE).openapi()
    COPY.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
