"""The plant: servers, supervisors and producers of the soak's own, kept running, and all ended when it is over."""

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
from tests.soak.producer import FAST, REAL
from tests.soak.supervisor import OWN_DEVICE

DATABASE = "soak"
CONFIG = f"""
[pipelines.{FAST}]
task = "sentiment-analysis"
model = "soak/device"
revision = "{"5" * 40}"
"""
SUPERVISORS = ((FAST, "cpu"), (FAST, "cpu"), (FAST, "cpu,cpu"), (REAL, "cpu"))
PRODUCERS = 2


@dataclass
class Keeper:
    """A process to start again whenever it has ended; `unsound` is told of an end that nobody wanted."""

    name: str
    command: Callable[[], list[str]]
    process: subprocess.Popen[bytes] | None = None
    wanted: bool = False  # its end was our doing


@dataclass
class Plant:
    """Everything that runs, and what it is known by."""

    folder: Path
    database: Database
    settings: Settings
    valkey: Valkey
    postgres: Postgres | None
    environment: dict[str, str]
    seeds: random.Random
    supervisors: list[Keeper] = field(default_factory=list)
    producers: list[Keeper] = field(default_factory=list)
    seen: set[psutil.Process] = field(default_factory=set)
    unsound: list[str] = field(default_factory=list)
    later: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    frozen: set[str] = field(default_factory=set)

    @property
    def record(self) -> Path:
        """Where the producers write what was accepted."""
        return self.folder / "accepted"

    @property
    def log(self) -> str:
        """What all processes said."""
        return (self.folder / "log").read_text(errors="replace")

    def open(self) -> None:
        """Start everything."""
        for number, (pipeline, devices) in enumerate(SUPERVISORS):
            own = [OWN_DEVICE] if pipeline == FAST else []
            words = ["-m", "tests.soak.supervisor", *own, pipeline, "--devices", devices]
            self.supervisors.append(Keeper(f"supervisor {number}", lambda words=words: words))
        self.start_producers()
        self.keep()

    def start_producers(self) -> None:
        """Have batches submitted from now on."""
        for number in range(PRODUCERS):
            self.producers.append(Keeper(
                f"producer {number}",
                lambda: ["-m", "tests.soak.producer", str(self.seeds.randrange(2**32)), str(self.record)],
            ))  # fmt: skip

    def keep(self) -> None:
        """Start again what has ended, do what is due, and remember every process there is."""
        for keeper in (*self.supervisors, *self.producers):
            status = None if keeper.process is None else keeper.process.poll()
            if status not in (None, Unreachable.exit_code) and not keeper.wanted:  # that says: start me again later
                self.unsound.append(f"{keeper.name} ended by itself with {status}")
            if keeper.process is None or keeper.process.poll() is not None:
                keeper.process, keeper.wanted = self._start(keeper), False
        for keeper in self.supervisors:
            self.seen.update(self.workers(keeper))
        now = time.monotonic()
        due = [call for moment, call in self.later if moment <= now]
        self.later = [(moment, call) for moment, call in self.later if moment > now]
        for call in due:
            call()

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        """Have something done later on."""
        self.later.append((time.monotonic() + seconds, call))

    def workers(self, keeper: Keeper) -> list[psutil.Process]:
        """The worker processes of a supervisor that are there."""
        with contextlib.suppress(psutil.NoSuchProcess):
            if keeper.process and keeper.process.poll() is None:
                children = psutil.Process(keeper.process.pid).children()
                return [child for child in children if not has_ended(child)]
        return []

    def settle(self) -> None:
        """Undo what still is disturbed, and disturb no more."""
        while self.later:
            self.later.sort(key=lambda pair: pair[0])
            _, call = self.later.pop(0)
            call()
        for process in self.seen:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)
        for keeper in self.producers:
            self.kill(keeper)
            assert keeper.process
            keeper.process.wait()
        self.producers = []

    def kill(self, keeper: Keeper) -> None:
        """SIGKILL, on purpose."""
        keeper.wanted = True
        if keeper.process is not None and keeper.process.poll() is None:
            keeper.process.kill()

    def query(self, sql: str, **named: Any) -> list[Any]:
        """Rows, as soon as the database answers."""
        for _ in range(100):
            with contextlib.suppress(Unreachable), self.database.read() as connection:
                return list(connection.execute(text(sql), named))
            time.sleep(0.1)
        raise TimeoutError("the database does not come back")

    def close(self) -> None:
        """End every process that was ever started here, however it fares."""
        for keeper in self.supervisors:
            self.seen.update(self.workers(keeper))
        for process in self.seen:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)
        own = [keeper.process for keeper in (*self.supervisors, *self.producers) if keeper.process]
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
        for worker in self.seen:
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.kill()
        self.database.close()

    def _start(self, keeper: Keeper) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", *keeper.command()], cwd=self.folder, env=self.environment,
                stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        with contextlib.suppress(psutil.NoSuchProcess):
            self.seen.add(psutil.Process(process.pid))
        return process


@contextmanager
def plant(folder: Path, kind: str, lease_seconds: float, seeds: random.Random) -> Iterator[Plant]:
    """A plant on a database of this kind, with leases of so many seconds; nothing of it is left behind."""
    (folder / CONFIG_NAME).write_text(CONFIG)
    with contextlib.ExitStack() as stack:
        valkey = stack.enter_context(Valkey())
        postgres = stack.enter_context(Postgres()) if kind == "postgresql" else None
        url = postgres.create_database(DATABASE) if postgres else f"sqlite:///{folder / 'batchmill.db'}"
        schema.upgrade(url)
        settings = {
            "home": folder, "config": folder / CONFIG_NAME, "database_url": url, "redis_url": valkey.url,
            "lease_seconds": lease_seconds, "heartbeat_seconds": lease_seconds / 5, "duty_seconds": 0.5,
            "deadline_seconds": 0.5, "ring_seconds": 2.0, "abandoned_seconds": 8.0, "grace_seconds": 10.0,
            "retry_seconds": 0.3, "longest_retry_seconds": 3.0, "slice_jobs": 128, "window_jobs": 512,
            "window_seconds": 1.0, "log_format": "json",
        }  # fmt: skip
        environment = {name: value for name, value in os.environ.items() if not name.startswith("BATCHMILL_")}
        environment |= {f"BATCHMILL_{name.upper()}": str(value) for name, value in settings.items()}
        environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        os.environ.update({name: value for name, value in environment.items() if name.startswith("BATCHMILL_")})
        ours = Plant(folder, Database(url), Settings.load(), valkey, postgres, environment, seeds)
        stack.callback(ours.close)
        yield ours
