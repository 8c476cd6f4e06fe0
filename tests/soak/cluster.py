"""The soak's servers, supervisors and producers: restarted when they end, and all stopped at the end."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import text

from models import schema
from models.db import Database
from models.errors import Unreachable
from models.settings import CONFIG_NAME, Settings
from tests.servers import Postgres, Valkey, has_ended
from tests.soak.producer import FAKE_PIPELINE, FAKE_PIPELINES, REAL, VECTOR_PIPELINE
from tests.soak.supervisor import FAKE_DEVICE_FLAG

DATABASE_NAME = "soak"
CONFIG = f"""
[pipelines.{FAKE_PIPELINE}]
task = "sentiment-analysis"
model = "soak/device"
revision = "{"5" * 40}"

[pipelines.{FAKE_PIPELINE}.guards.words]
on = "input"
words = ["terrible", "slow"]
action = "redact"
keep_original = true

[pipelines.{VECTOR_PIPELINE}]
task = "feature-extraction"
model = "soak/embedder"
revision = "{"6" * 40}"
"""
SUPERVISORS = (
    (FAKE_PIPELINE, "cpu"),
    (FAKE_PIPELINE, "cpu"),
    (FAKE_PIPELINE, "cpu,cpu"),
    (VECTOR_PIPELINE, "cpu"),
    (REAL, "cpu"),
)
PRODUCER_COUNT = 2


@dataclass
class RestartingProcess:
    """A process that is restarted whenever it ends; ends without a fault are recorded in `unexpected_exits`."""

    name: str
    command: Callable[[], list[str]]
    process: subprocess.Popen[bytes] | None = None
    exit_expected: bool = False  # its end was our doing


@dataclass
class Cluster:
    """Everything that runs, and what it is known by."""

    folder: Path
    database: Database
    settings: Settings
    valkey: Valkey
    postgres: Postgres | None
    environment: dict[str, str]
    seed_rng: random.Random
    supervisors: list[RestartingProcess] = field(default_factory=list)
    producers: list[RestartingProcess] = field(default_factory=list)
    known_processes: set[psutil.Process] = field(default_factory=set)
    unexpected_exits: list[str] = field(default_factory=list)
    scheduled_calls: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    frozen_names: set[str] = field(default_factory=set)

    @property
    def accepted_file(self) -> Path:
        """Where the producers write what was accepted."""
        return self.folder / "accepted"

    @property
    def log(self) -> str:
        """What all processes said."""
        return (self.folder / "log").read_text(errors="replace")

    def start(self) -> None:
        """Start everything."""
        for number, (pipeline, devices) in enumerate(SUPERVISORS):
            own = [FAKE_DEVICE_FLAG] if pipeline in FAKE_PIPELINES else []
            words = ["-m", "tests.soak.supervisor", *own, pipeline, "--devices", devices]
            self.supervisors.append(RestartingProcess(f"supervisor {number}", lambda words=words: words))
        self.start_producers()
        self.restart_exited()

    def start_producers(self) -> None:
        """Have batches submitted from now on."""
        for number in range(PRODUCER_COUNT):
            self.producers.append(
                RestartingProcess(
                    f"producer {number}",
                    lambda: ["-m", "tests.soak.producer", str(self.seed_rng.randrange(2**32)), str(self.accepted_file)],
                )
            )

    def restart_exited(self) -> None:
        """Start again what has ended, do what is due, and remember every process there is."""
        for restarting in (*self.supervisors, *self.producers):
            status = None if restarting.process is None else restarting.process.poll()
            if (
                status not in (None, Unreachable.exit_code) and not restarting.exit_expected
            ):  # that says: start me again later
                self.unexpected_exits.append(f"{restarting.name} ended by itself with {status}")
            if restarting.process is None or restarting.process.poll() is not None:
                restarting.process, restarting.exit_expected = self._spawn(restarting), False
        for supervisor in self.supervisors:
            self.known_processes.update(self.worker_processes(supervisor))
        now = time.monotonic()
        due = [call for moment, call in self.scheduled_calls if moment <= now]
        self.scheduled_calls = [(moment, call) for moment, call in self.scheduled_calls if moment > now]
        for call in due:
            call()

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        """Have something done later on."""
        self.scheduled_calls.append((time.monotonic() + seconds, call))

    def worker_processes(self, supervisor: RestartingProcess) -> list[psutil.Process]:
        """The worker processes of a supervisor that are there."""
        with contextlib.suppress(psutil.NoSuchProcess):
            if supervisor.process and supervisor.process.poll() is None:
                children = psutil.Process(supervisor.process.pid).children()
                return [child for child in children if not has_ended(child)]
        return []

    def stop_faults(self) -> None:
        """Undo what still is disturbed, and disturb no more."""
        while self.scheduled_calls:
            self.scheduled_calls.sort(key=lambda pair: pair[0])
            _, call = self.scheduled_calls.pop(0)
            call()
        for process in self.known_processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)
        for producer in self.producers:
            self.kill(producer)
            assert producer.process
            producer.process.wait()
        self.producers = []

    def kill(self, restarting: RestartingProcess) -> None:
        """SIGKILL, on purpose."""
        restarting.exit_expected = True
        if restarting.process is not None and restarting.process.poll() is None:
            restarting.process.kill()

    def query(self, sql: str, **parameters: Any) -> list[Any]:
        """Return the rows, waiting until the database is reachable."""
        for _ in range(100):
            with contextlib.suppress(Unreachable), self.database.read() as connection:
                return list(connection.execute(text(sql), parameters))
            time.sleep(0.1)
        raise TimeoutError("the database does not come back")

    def close(self) -> None:
        """End every process that was ever started here, however it fares."""
        for supervisor in self.supervisors:
            self.known_processes.update(self.worker_processes(supervisor))
        for process in self.known_processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)
        own = [restarting.process for restarting in (*self.supervisors, *self.producers) if restarting.process]
        for process in own:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        deadline = time.monotonic() + 2 * self.settings.grace_seconds
        for process in own:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for worker in self.known_processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.kill()
        self.database.close()

    def _spawn(self, restarting: RestartingProcess) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", *restarting.command()],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        with contextlib.suppress(psutil.NoSuchProcess):
            self.known_processes.add(psutil.Process(process.pid))
        return process


@contextmanager
def run_cluster(folder: Path, database_kind: str, lease_seconds: float, seed_rng: random.Random) -> Iterator[Cluster]:
    """Yield a cluster on a database of this kind, with leases of so many seconds; afterwards nothing is left."""
    (folder / CONFIG_NAME).write_text(CONFIG)
    with contextlib.ExitStack() as stack:
        valkey = stack.enter_context(Valkey())
        postgres = stack.enter_context(Postgres()) if database_kind == "postgresql" else None
        url = postgres.create_database(DATABASE_NAME) if postgres else f"sqlite:///{folder / 'batchmill.db'}"
        schema.upgrade(url)
        settings = {
            "home": folder,
            "config": folder / CONFIG_NAME,
            "database_url": url,
            "redis_url": valkey.url,
            "lease_seconds": lease_seconds,
            "heartbeat_seconds": lease_seconds / 5,
            "poll_interval_seconds": 0.5,
            "deadline_check_seconds": 0.5,
            "wakeup_resend_seconds": 2.0,
            "submit_timeout_seconds": 8.0,
            "grace_seconds": 10.0,
            "retry_base_seconds": 0.3,
            "max_retry_seconds": 3.0,
            "slice_size": 128,
            "max_claim_jobs": 512,
            "target_claim_seconds": 1.0,
            "log_format": "json",
        }
        environment = {name: value for name, value in os.environ.items() if not name.startswith("BATCHMILL_")}
        environment |= {f"BATCHMILL_{name.upper()}": str(value) for name, value in settings.items()}
        environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        os.environ.update({name: value for name, value in environment.items() if name.startswith("BATCHMILL_")})
        cluster = Cluster(folder, Database(url), Settings.load(), valkey, postgres, environment, seed_rng)
        stack.callback(cluster.close)
        yield cluster
