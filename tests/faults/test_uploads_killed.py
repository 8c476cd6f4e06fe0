"""A server, or the process that reads for it, is killed at every step of an upload: nothing is lost or there twice."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import openai
import psutil
import pytest
from sqlalchemy import text

from models.db import Database
from models.processes import failpoints
from producer.batches import views
from tests.factories.batch_rows import assert_consistent
from tests.servers import has_ended, wait_until

ROWS = 12_000  # two chunks, and more than a request reads itself


@dataclass(frozen=True)
class RunningServer:
    """A real `batchmill serve`."""

    process: "subprocess.Popen[str]"
    url: str

    def client(self) -> openai.OpenAI:
        """A client that repeats nothing."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0)


@contextmanager
def serve(failpoint: str = "") -> Iterator[RunningServer]:
    """A server in the test's home, which is killed at the end."""
    command = [sys.executable, "-m", "batchmill", "serve", "--host", "127.0.0.1", "--port", "0"]
    environment = {**os.environ, failpoints.ENVIRONMENT_VARIABLE: failpoint}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, env=environment)
    with process:
        assert process.stderr is not None
        first_line = process.stderr.readline()
        address = re.search(r"http://[\d.]+:\d+", first_line)
        assert address is not None, first_line + process.stderr.read()
        try:
            yield RunningServer(process, address[0])
        finally:
            process.kill()


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """The database of this test: the intake's own tests have both kinds."""
    return sqlite_url


def write_file(path: Path, rows: int) -> Path:
    with path.open("w") as file:
        for number in range(rows):
            body = {"model": "sample-sentiment-analysis", "input": f"text {number}"}
            line = {"custom_id": f"row-{number}", "method": "POST", "url": "/v1/moderations", "body": body}
            file.write(json.dumps(line) + "\n")
    return path


def upload(server: RunningServer, path: Path) -> str:
    with path.open("rb") as file:
        return server.client().files.create(file=file, purpose="batch").id


def create(server: RunningServer, file_id: str) -> str:
    batches = server.client().batches
    return batches.create(input_file_id=file_id, endpoint="/v1/moderations", completion_window="24h").id


def wait_for_jobs(database: Database, batch_id: str, rows: int) -> None:
    wait_until(lambda: views.get_batch(database, batch_id).status != "validating", "the batch to be accepted")
    batch = views.get_batch(database, batch_id)
    assert (batch.status, batch.counts.total, batch.error_message) == ("in_progress", rows, None)
    query = text("SELECT custom_id FROM jobs WHERE batch_id = :batch_id ORDER BY position")
    with database.read() as connection:
        ids = connection.scalars(query, {"batch_id": batch_id}).all()
    assert ids == [f"row-{number}" for number in range(rows)]
    assert_consistent(database, batch_id)


def send_half(server: RunningServer) -> socket.socket:
    """Begin an upload, and leave it in the middle."""
    address = urlsplit(server.url)
    connection = socket.create_connection((address.hostname, address.port))
    head = f"POST /v1/files HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: 1000000\r\n"
    head += "Content-Type: multipart/form-data; boundary=X\r\n\r\n"
    part = '--X\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    connection.sendall(f"{head}{part}{'x' * 500_000}".encode())
    return connection


def test_killed_at_every_step(database: Database, tmp_path: Path, batchmill_home: Path) -> None:
    small_file, large_file = write_file(tmp_path / "small.jsonl", 20), write_file(tmp_path / "large.jsonl", ROWS)

    # Given a server that is killed with half of one upload, and with another one that has no row yet
    with serve("after_upload:kill") as server, send_half(server):
        wait_until(lambda: any(batchmill_home.rglob("*.part")), "the server to receive it")
        with pytest.raises(openai.APIConnectionError):
            upload(server, small_file)

    # And one that is killed before its client knows the batch
    with serve("after_open_batch:kill") as server:
        assert list(server.client().files.list()) == []
        file_id = upload(server, small_file)
        with pytest.raises(openai.APIConnectionError):
            create(server, file_id)

    # And one that is killed while its process reads
    with serve("before_intake:sleep") as server:
        large_id = create(server, upload(server, large_file))
        wait_until(lambda: is_held(database, large_id), "a process to take the batch")
        children = psutil.Process(server.process.pid).children(recursive=True)
        server.process.kill()
        wait_until(lambda: all(map(has_ended, children)), "its process to end with it")

    # When the last one goes on, and its process is killed after every chunk
    with serve("after_ingest_chunk:kill@1") as server:
        wait_for_jobs(database, large_id, ROWS)
        small_id = create(server, file_id)
        wait_for_jobs(database, small_id, 20)

        # Then the repeated request is the batch that was there, and there is nothing else
        assert {batch.id for batch in server.client().batches.list()} == {small_id, large_id}
        assert len(list(server.client().files.list())) == 2


def is_held(database: Database, batch_id: str) -> bool:
    with database.read() as connection:
        holder = text("SELECT holder_id FROM batches WHERE id = :batch_id")
        return connection.scalar(holder, {"batch_id": batch_id}) is not None
