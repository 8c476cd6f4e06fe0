"""Deployments for benchmarks: real servers, a worker process, and timing by the database's clock."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import THREADS
from models import schema
from models.settings import CONFIG_NAME
from tests.deployment import Deployment
from tests.servers import Postgres, Valkey
from worker.supervisor.supervisor import CHILD_ENVIRONMENT

NO_OP_PIPELINE = "sample-sentiment-analysis"
MAX_WAIT_SECONDS = 300.0

# From the commit of the batch to that of its last result, and from the call of submit.
SELECT_BATCH_TIMING = """
SELECT extract(epoch FROM completed_at - in_progress_at) AS worked, extract(epoch FROM completed_at) AS ended,
       succeeded, total, tokens, padded_tokens
FROM batches WHERE id = :id
"""


SELECT_FAILURES = (
    "SELECT error_code, error_message, count(*) FROM results WHERE batch_id = :id AND status = 'failed' GROUP BY 1, 2"
)


@dataclass(frozen=True, slots=True)
class BatchTiming:
    """Timing of a batch.

    work_seconds: from committed submit to committed results.
    total_seconds: from the call.
    tokens: those of all rows, without padding.
    """

    work_seconds: float
    total_seconds: float
    batch_id: str
    padding_share: float
    tokens: int


@dataclass
class RunningService:
    """A deployment with one warm worker."""

    deployment: Deployment
    worker: subprocess.Popen[bytes]

    def run_batch(
        self, pipeline: str, inputs: Iterable[Any], parameters: Mapping[str, Any] | None = None
    ) -> BatchTiming:
        """Submit a batch, wait for its end and return its timing; every job must succeed."""
        called = time.time()
        batch = self.deployment.client.submit(pipeline, inputs, parameters=parameters)
        batch.wait(MAX_WAIT_SECONDS)
        [row] = self.deployment.query(SELECT_BATCH_TIMING, id=batch.id)
        if row.succeeded != row.total:
            why = self.deployment.query(SELECT_FAILURES, id=batch.id)
            raise RuntimeError(f"{row.total - row.succeeded} of {row.total} jobs failed: {why}")
        padding = 1 - float(row.tokens) / float(row.padded_tokens) if row.padded_tokens else 0.0
        return BatchTiming(float(row.worked), float(row.ended) - called, batch.id, padding, row.tokens)

    @property
    def peak_mib(self) -> float:
        """Peak resident memory of the worker process so far, in MiB."""
        [pid] = self.deployment.ready_worker_pids()
        status = Path(f"/proc/{pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024


@contextmanager
def run_servers() -> Iterator[tuple[Postgres, Valkey]]:
    """Start a PostgreSQL with durable commits, and a Valkey."""
    with Postgres() as postgres, Valkey() as valkey:
        yield postgres, valkey


@contextmanager
def run_service(
    postgres: Postgres, valkey: Valkey, folder: Path, pipelines: Mapping[str, Mapping[str, Any]] | None = None
) -> Iterator[RunningService]:
    """Start a worker for these catalogue entries, by name; without any, one with a no-op model."""
    name = f"mill_{folder.name.replace('-', '_')}"
    try:
        with deployment_on(postgres.create_database(name), valkey, folder, pipelines) as deployment:
            yield RunningService(deployment, start_worker(deployment, list(pipelines or ())))
    finally:
        postgres.drop_database(name)


@contextmanager
def deployment_on(
    url: str, valkey: Valkey, folder: Path, pipelines: Mapping[str, Mapping[str, Any]] | None = None
) -> Iterator[Deployment]:
    """Prepare a deployment on this database, with tables and catalogue entries but no process."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / CONFIG_NAME
    config.write_text("".join(_pipeline_toml(name, entry) for name, entry in (pipelines or {}).items()))
    schema.upgrade(url)
    settings = {
        "BATCHMILL_HOME": str(folder),
        "BATCHMILL_CONFIG": str(config),
        "BATCHMILL_DATABASE_URL": url,
        "BATCHMILL_REDIS_URL": valkey.url,
    }
    for name in [name for name in os.environ if name.startswith("BATCHMILL_")]:
        del os.environ[name]
    os.environ.update(settings)  # the client reads them in this process
    deployment = Deployment(folder, dict(os.environ))
    try:
        yield deployment
    finally:
        deployment.close()


def start_worker(deployment: Deployment, pipelines: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    """Start a worker and wait until it is ready; without pipelines it has a no-op model."""
    module, arguments = (
        ("benchmarks.noop_worker", [NO_OP_PIPELINE])
        if not pipelines
        else ("worker.process", [",".join(pipelines), "cpu", str(THREADS), "bench"])
    )
    with (deployment.folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, *arguments],
            cwd=deployment.folder,
            env={**CHILD_ENVIRONMENT, **deployment.environment},
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
        )
    deployment.processes.append(process)
    deployment.wait_for_workers()
    return process


def _pipeline_toml(name: str, entry: Mapping[str, Any]) -> str:
    lines = [f"{key} = {json.dumps(value)}" for key, value in entry.items() if key != "guards"]
    for guard, fields in entry.get("guards", {}).items():
        lines += [
            f"[pipelines.{name}.guards.{guard}]",
            *(f"{key} = {json.dumps(value)}" for key, value in fields.items()),
        ]
    return "\n".join([f"[pipelines.{name}]", *lines, ""])
