"""A file of rows until it is accepted: by `batchmill submit` and by an upload, in turns."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks import deployments, submit_timing
from benchmarks.http_door import served
from producer.client import Client
from tests.deployment import Deployment
from tests.servers import Valkey


@dataclass
class UploadFigures:
    """Seconds of each run on one kind of database, and the peaks of the server and of its reader of files."""

    database: str
    rows: int
    command_seconds: list[float] = field(default_factory=list)
    upload_seconds: list[float] = field(default_factory=list)
    server_mib: float = 0.0
    child_mib: float = 0.0

    @property
    def command_pace(self) -> float:
        """Rows a second of the command."""
        return self.rows / median(self.command_seconds)

    @property
    def upload_pace(self) -> float:
        """Rows a second over HTTP."""
        return self.rows / median(self.upload_seconds)

    @property
    def ratio(self) -> float:
        """The pace over HTTP, as a share of the command's."""
        return self.upload_pace / self.command_pace


@dataclass(frozen=True, slots=True)
class Place:
    """One kind of database, on which each run gets a new one."""

    name: str
    create: Callable[[], str]
    drop: Callable[[], None]
    folder: Path
    valkey: Valkey

    @contextmanager
    def deployment(self) -> Iterator[Deployment]:
        """Yield a deployment on a new database."""
        self.valkey.flush()
        try:
            with deployments.deployment_on(self.create(), self.valkey, self.folder / self.name.lower()) as deployment:
                yield deployment
        finally:
            self.drop()


def measure(place: Place, rows: int, rounds: int) -> UploadFigures:
    """Submit a file of rows by the command and over HTTP, in turns."""
    figures = UploadFigures(place.name, rows)
    path = submit_timing.write_jsonl(place.folder, rows)
    for number in range(rounds):
        runs = [lambda: _by_command(place, path, figures), lambda: _by_upload(place, path, figures)]
        for run in runs if number % 2 == 0 else reversed(runs):
            run()
    return figures


def _by_command(place: Place, path: Path, figures: UploadFigures) -> None:
    with place.deployment() as deployment:
        command = [sys.executable, "-P", "-m", "batchmill", "submit", str(path), "-p", deployments.NO_OP_PIPELINE]
        started = time.perf_counter()
        with subprocess.Popen(
            command, cwd=deployment.folder, env=deployment.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout
            batch_id = process.stdout.readline()
            figures.command_seconds.append(time.perf_counter() - started)
            _, errors = process.communicate()
        if not batch_id:
            raise RuntimeError(f"submit failed:\n{errors.decode()}")


def _by_upload(place: Place, path: Path, figures: UploadFigures) -> None:
    with place.deployment() as deployment, served.serve(deployment) as server, Client(server.url) as client:
        client.batches(1)  # the connection is there, as the command's interpreter is not
        started = time.perf_counter()
        batch = client.submit(deployments.NO_OP_PIPELINE, files=path)
        figures.upload_seconds.append(time.perf_counter() - started)
        if batch.request_counts.total != figures.rows:
            raise RuntimeError(f"only {batch.request_counts.total:,} of {figures.rows:,} rows were accepted")
        figures.server_mib = max(figures.server_mib, server.server_mib)
        figures.child_mib = max(figures.child_mib, server.child_mib)
