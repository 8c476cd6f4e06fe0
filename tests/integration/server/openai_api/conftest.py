"""An application with OpenAI's own client in front of it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from openai import OpenAI
from starlette.testclient import TestClient

from models.db import Database
from models.pipelines.catalogue import Catalogue
from models.settings import Settings
from producer.server.context import ServerContext
from tests.factories.http_server import patient_app


class Door:
    """The application, the raw HTTP client and OpenAI's client over it."""

    def __init__(self, database: Database, http: TestClient) -> None:
        self.database = database
        self.http = http
        self.openai = OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="none", http_client=http, max_retries=0)

    def upload(self, *lines: object, filename: str = "input.jsonl") -> str:
        """Upload lines and return the file's id; an object is written as JSON."""
        content = b"".join((item if isinstance(item, bytes) else json.dumps(item).encode()) + b"\n" for item in lines)
        return self.openai.files.create(file=(filename, content), purpose="batch").id

    def create(self, *lines: object, endpoint: str = "/v1/pipelines/sentiment-analysis", **more: Any) -> Any:
        """Upload lines, and create a batch for them."""
        return self.openai.batches.create(
            input_file_id=self.upload(*lines),
            endpoint=endpoint,
            completion_window="24h",
            **more,  # type: ignore[arg-type]
        )

    def lines_of(self, file_id: str) -> list[dict[str, Any]]:
        """The lines of an output or error file."""
        return [json.loads(line) for line in self.openai.files.content(file_id).text.splitlines()]


@pytest.fixture
def door(database: Database) -> Iterator[Door]:
    """Yield a server without keys on both databases."""
    yield from open_door(database)


@pytest.fixture
def sqlite_door(sqlite_url: str) -> Iterator[Door]:
    """Yield a server for what no database has a part in."""
    database = Database(sqlite_url)
    yield from open_door(database)
    database.close()


def open_door(database: Database) -> Iterator[Door]:
    """Start the application."""
    settings = Settings.load()
    context = ServerContext(settings, database, Catalogue.load(settings))
    with TestClient(patient_app(context), base_url="http://127.0.0.1:8000") as http:
        yield Door(database, http)


def request_line(custom_id: str, url: str = "/v1/pipelines/sentiment-analysis", **body: Any) -> dict[str, Any]:
    """One line of an input file."""
    body = body or {"text": f"text of {custom_id}"}
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}
