"""Writes `docs/reference/openapi.json`, the copy of the server's OpenAPI document: `make openapi`."""

import json
import tempfile
from contextlib import closing
from pathlib import Path

from models.db import Database
from tests import reference_tables
from tests.factories.http_server import app_over

COPY = Path(__file__).parents[1] / "docs" / "reference" / "openapi.json"


def main() -> None:
    """Write the copy, and the tables of routes that are made from it."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'empty.db'}"  # nothing is read
        with closing(Database(url)) as database:
            document = app_over(database, url, home=Path(folder)).openapi()
    COPY.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf-8")
    reference_tables.main()


if __name__ == "__main__":
    main()
