"""The forms of a submission as a browser fills them in and sends them."""

import html
import json
import re
from typing import Any

from sqlalchemy import text
from starlette.testclient import TestClient

from models.db import Database
from tests.factories.page_clients import csrf_token

PIPELINE = "sample-sentiment-analysis"
CSV = b"id,review,stars\n1,a fine day,5\n2,a bad day,1\n"


def hidden(page: str, name: str) -> str:
    """The value of a hidden field."""
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found is not None
    return html.unescape(found[1])


def upload(browser: TestClient, content: bytes = CSV, filename: str = "reviews.csv", **fields: str) -> Any:
    """Send the form as a browser does: the token first, the file last."""
    data = {"csrf_token": csrf_token(browser), "key": "", "pipeline": PIPELINE, "texts": "", **fields}
    return browser.post("/submit/files", data=data, files={"file": (filename, content)})


def uploaded(browser: TestClient, content: bytes = CSV, filename: str = "reviews.csv") -> str:
    """Return the address of the form of a file."""
    response = upload(browser, content, filename)
    assert response.status_code == 303
    return str(response.headers["location"])


def form_of(page: str) -> dict[str, str]:
    """The hidden fields of the form that submits, which a browser sends whatever the visitor enters."""
    return {name: hidden(page, name) for name in ("csrf_token", "key", "pipeline", "file_format")}


def submit(browser: TestClient, address: str, **fields: str) -> Any:
    """Submit the file of an address."""
    form = form_of(browser.get(address).text)
    return browser.post(address.partition("?")[0], data={**form, "column.text": "review", **fields})


def count(database: Database, table: str) -> int:
    """The rows of a table."""
    with database.read() as connection:
        return int(connection.scalar(text(f"SELECT count(*) FROM {table}")) or 0)


def inputs_of(database: Database, batch_id: str) -> list[tuple[Any, Any]]:
    """The id and the text of each job."""
    query = text("SELECT custom_id, input FROM jobs WHERE batch_id = :id ORDER BY position")
    with database.read() as connection:
        rows = connection.execute(query, {"id": batch_id}).all()
    documents = [json.loads(row.input) if isinstance(row.input, str) else row.input for row in rows]
    return [(row.custom_id, document["text"]) for row, document in zip(rows, documents, strict=True)]


def batch_of(response: Any) -> str:
    """The id of the batch whose page a response leads to."""
    assert response.status_code == 303, response.text
    return str(response.headers["location"]).rpartition("/")[2]
