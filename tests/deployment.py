"""A Batchmill deployment for one test: its settings, its processes, and queries on its batches."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
from click.testing import CliRunner
from sqlalchemy import Engine, NullPool, create_engine, text
from sqlalchemy.exc import OperationalError

import batchmill
from batchmill import Client
from models.lifecycle.seats import make_worker_id
from producer.health import audit
from tests.servers import WAIT_TIMEOUT_SECONDS
from worker.supervisor.supervisor import CHILD_ENVIRONMENT

PIPELINE = "sample-sentiment-analysis"

# Idle processes look for work often, and each server has a free port. Leases are as long as by default, because a
# loaded machine may delay heartbeats: a test that needs a lease to expire calls `expire_leases`.
FAST_SETTINGS = {
    "BATCHMILL_SERVE_PORT": "0",
    "BATCHMILL_HEARTBEAT_SECONDS": "0.4",
    "BATCHMILL_POLL_INTERVAL_SECONDS": "0.3",
    "BATCHMILL_GRACE_SECONDS": "20",
}

POLL_SECONDS = 0.05

WORDS = """
the a this that service product film staff food room phone book price I we it was is really very not never good great
awful terrible lovely boring slow fast broken perfect love hate enjoyed returned again today
""".split()  # noqa: SIM905 - a list of as many strings reads worse


def random_texts(count: int, seed: int = 0) -> list[str]:
    """Return texts of skewed length, from one word to a few hundred."""
    source = random.Random(seed)
    return [" ".join(source.choices(WORDS, k=max(1, int(source.lognormvariate(2.5, 0.9))))) for _ in range(count)]


def wait_for(condition: Callable[[], Any], description: str) -> Any:
    """Wait until a condition is true and return its value."""
    deadline = time.monotonic() + WAIT_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(POLL_SECONDS)
    raise AssertionError(f"waited in vain: {description}")


@dataclass
class Deployment:
    """A folder and environment in which commands run; `close` ends the started processes."""

    folder: Path
    environment: dict[str, str]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @cached_property
    def client(self) -> Client:
        """Return a client on the same database and Redis."""
        return Client(self.environment.get("BATCHMILL_DATABASE_URL"), self.environment.get("BATCHMILL_REDIS_URL"))

    @property
    def database_url(self) -> str:
        """Return the URL of its database, by default a file in its home, which is not created."""
        file = Path(self.environment["BATCHMILL_HOME"]) / "batchmill.db"
        return self.environment.get("BATCHMILL_DATABASE_URL") or f"sqlite:///file:{file}?mode=rw&uri=true"

    @cached_property
    def _engine(self) -> Engine:
        """Make each query a connection, as the database may have been away since; it asks for the version only once."""
        return create_engine(self.database_url, poolclass=NullPool)

    @property
    def log(self) -> str:
        """Return the output of the started processes."""
        file = self.folder / "log"
        return file.read_text(errors="replace") if file.exists() else ""

    def start(self, *command: str, stdin: int = subprocess.DEVNULL, **environment: str) -> subprocess.Popen[bytes]:
        """Start `batchmill COMMAND…` with additional variables; its log goes to a file."""
        return self._start_module(("batchmill", *command), self.environment | environment, stdin)

    def start_worker(self, *pipelines: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a worker process on the CPU without its supervisor, which takes as long to start as the process."""
        worker_id = make_worker_id(f"worker-{len(self.processes)}", 1)
        return self._start_module(
            ("worker.process", ",".join(pipelines), "cpu", "1", worker_id),
            CHILD_ENVIRONMENT | self.environment | environment,
            subprocess.PIPE,  # the process ends with its input
        )

    def _start_module(
        self, arguments: Sequence[str], environment: dict[str, str], stdin: int
    ) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", *arguments],
                cwd=self.folder,
                env=environment,
                stdin=stdin,
                stdout=log,
                stderr=log,
            )
        self.processes.append(process)
        return process

    def run(self, *command: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run `batchmill COMMAND…` to its end."""
        return subprocess.run(
            [sys.executable, "-P", "-m", "batchmill", *command],
            cwd=self.folder,
            env=self.environment,
            input=stdin,
            capture_output=True,
            timeout=2 * WAIT_TIMEOUT_SECONDS,
            check=False,
        )

    def invoke(self, *command: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run `batchmill COMMAND…` to its end in the test's process; a process takes a second longer."""
        settings = {name: value for name, value in self.environment.items() if name.startswith("BATCHMILL_")}
        result = CliRunner().invoke(batchmill.cli, command, input=stdin, env=settings)
        return subprocess.CompletedProcess(command, result.exit_code, result.stdout_bytes, result.stderr_bytes)

    def query(self, sql: str, **parameters: Any) -> list[Any]:
        """Return the rows of a query on the deployment's database."""
        with self._engine.connect() as connection:
            return list(connection.execute(text(sql), parameters))

    def execute(self, sql: str, lock_timeout_seconds: float = WAIT_TIMEOUT_SECONDS) -> None:
        """Execute a statement that changes rows; it fails if the database stays locked for so long."""
        url, seconds = self.database_url, lock_timeout_seconds
        bounded = {"timeout": seconds} if "sqlite" in url else {"options": f"-c lock_timeout={1000 * seconds:.0f}"}
        engine = create_engine(url, poolclass=NullPool, connect_args=bounded)
        try:
            with engine.begin() as connection:
                connection.execute(text(sql))
        finally:
            engine.dispose()

    def expire_leases(self) -> None:
        """Let all leases expire now, as if their holders had been silent for long; live ones renew them."""
        sql = self.client.database.sql
        with self.client.database.write() as connection:
            expire = f"UPDATE slices SET lease_expires_at = {sql.seconds_from_now(-1)} WHERE state = 'leased'"
            connection.execute(text(expire))

    def ready_worker_pids(self) -> list[int]:
        """Return the process ids of the ready workers; none if the database has no tables yet."""
        try:
            rows = self.query("SELECT pid FROM workers WHERE state = 'ready' ORDER BY started_at")
        except OperationalError:
            return []
        return [row.pid for row in rows if psutil.pid_exists(row.pid)]

    def wait_for_workers(self, count: int = 1) -> list[int]:
        """Wait until this many workers are ready; returns their process ids."""
        pids: list[int] = wait_for(
            lambda: (found := self.ready_worker_pids()) and len(found) >= count and found, "ready workers"
        )
        return pids

    def wait_for_results(self, batch_id: str, count: int) -> None:
        """Wait until this many results are written."""
        wait_for(lambda: self.count_results(batch_id) >= count, f"{count} results")

    def count_results(self, batch_id: str) -> int:
        """Return the number of results."""
        found: int = self.query("SELECT count(*) AS n FROM results WHERE batch_id = :id", id=batch_id)[0].n
        return found

    def assert_completed(self, batch_id: str, total: int) -> None:
        """Assert that the batch is completed, every job has exactly one outcome, and the audit passes."""
        self.assert_consistent(batch_id)
        batch = self.query("SELECT status, total FROM batches WHERE id = :id", id=batch_id)[0]
        assert (batch.status, batch.total, self.count_results(batch_id)) == ("completed", total, total)

    def assert_consistent(self, batch_id: str) -> None:
        """Assert that no job is lost or duplicated at this moment; a lease that just expired is fine."""
        audited = audit.audit_batch(self.client.database, batch_id, self.client.settings.lease_seconds)
        assert audited.is_sound, audited.problems

    def outputs(self, batch_id: str) -> list[Any]:
        """Return all outputs in the order of the inputs."""
        rows = self.query("SELECT output FROM results WHERE batch_id = :id ORDER BY position", id=batch_id)
        return [json.loads(row.output) if isinstance(row.output, str) else row.output for row in rows]

    def close(self) -> None:
        """End the started processes; fails if any of them or of their children can't be ended."""
        self.client.close()
        family = [psutil.Process(process.pid) for process in self.processes if process.poll() is None]
        family += [child for process in family for child in process.children(recursive=True)]
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in self.processes:
            process.wait(WAIT_TIMEOUT_SECONDS)
            if process.stdin is not None:
                process.stdin.close()
        _, alive = psutil.wait_procs(family, timeout=WAIT_TIMEOUT_SECONDS)
        for left in alive:
            left.kill()
        assert alive == []


@contextmanager
def temporary_deployment(folder: Path, **settings: str) -> Iterator[Deployment]:
    """Yield a deployment whose processes look for work often and have one compute thread.

    settings: further ones, as `database_url="…"`
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BATCHMILL_")}
    environment |= {"BATCHMILL_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1", **FAST_SETTINGS}
    environment |= {f"BATCHMILL_{name.upper()}": value for name, value in settings.items()}
    deployment = Deployment(folder, environment)
    try:
        yield deployment
    finally:
        deployment.close()
