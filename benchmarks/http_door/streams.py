"""All results as one stream: as lines of JSON and as the output file of an OpenAI batch, beside the file export."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx2
from sqlalchemy import Connection, text

from benchmarks.http_door.served import Served
from models.db import Database
from models.settings import Settings
from producer.client import Client
from producer.uploads.files import PURPOSE_OUTPUT, NewFile, insert_file

Paces = dict[str, float]  # rows a second by name

EXPORT, NDJSON, OPENAI = "file export", "NDJSON over HTTP", "OpenAI output file"
MAX_SECONDS = 600.0
ENDPOINT = "/v1/moderations"


def measure(database: Database, server: Served, batch_id: str, rows: int, folder: Path, rounds: int = 2) -> Paces:
    """Return the best pace of each way to read all results."""
    settings = Settings.load()

    def work(connection: Connection) -> str:
        # The batch was written straight to SQL, as one of native rows.
        connection.execute(text("UPDATE batches SET endpoint = :endpoint"), {"endpoint": ENDPOINT})
        new = NewFile(f"{batch_id}_output.jsonl", purpose=PURPOSE_OUTPUT, batch_id=batch_id)
        return insert_file(connection, database.sql, settings, new)

    file_id = database.transact(work)
    ways: Mapping[str, Callable[[], int]] = {
        EXPORT: lambda: _export(database.url, batch_id, folder / "export.jsonl"),
        NDJSON: lambda: _download(f"{server.url}/api/batches/{batch_id}/results?format=ndjson", folder / "http.jsonl"),
        OPENAI: lambda: _download(f"{server.url}/v1/files/{file_id}/content", folder / "openai.jsonl"),
    }
    paces: Paces = {}
    for _ in range(rounds):
        for name, read in ways.items():
            started = time.perf_counter()
            if (lines := read()) != rows:
                raise RuntimeError(f"{name}: {lines:,} of {rows:,} rows")
            paces[name] = max(paces.get(name, 0.0), rows / (time.perf_counter() - started))
    return paces


def _export(url: str, batch_id: str, path: Path) -> int:
    with Client(url) as client:
        return client.batch(batch_id).to_jsonl(path)


def _download(url: str, path: Path) -> int:
    lines = 0
    with path.open("wb") as file, httpx2.stream("GET", url, timeout=MAX_SECONDS) as response:
        response.raise_for_status()
        for chunk in response.iter_bytes():
            file.write(chunk)
            lines += chunk.count(b"\n")
    return lines
