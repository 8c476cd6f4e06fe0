"""Schedules under test: a ticket table as the source, an explicit clock, and answers without a model."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import insert, text

from models.db import Database
from models.documents import to_json
from models.guards.verdict import Verdict
from models.pipelines.catalogue import Catalogue
from models.settings import Settings
from models.states import JobOutcome
from models.tables.schedules import Run
from producer.health import audit
from producer.schedules import registry, validation
from producer.schedules.definition import ScheduleDefinition
from producer.schedules.runs import manual_runs, run_views, tick
from producer.schedules.runs.run_views import RunView
from producer.schedules.runs.tick import TickResult
from producer.times import TimeRange
from tests.factories import tick_processes
from tests.factories.batch_rows import MODEL_VERSION, REVISION, get_unanswered_jobs
from tests.servers import WAIT_TIMEOUT_SECONDS, wait_until
from worker.leasing import commit, leases
from worker.leasing.claiming import claims
from worker.leasing.job_results import BatchCommit, JobResult
from worker.leasing.leases import Job
from worker.loading import versions

PIPELINE = "sample-sentiment-analysis"
CREATED_AT = datetime(2026, 3, 1, 20, 0, tzinfo=UTC)
SELECT_TICKETS = "SELECT id, body FROM tickets WHERE created_at >= :since AND created_at < :until ORDER BY id"


def utc(month_day_time: str) -> datetime:
    """Return a time of 2026 in UTC, such as `03-02 02:00`."""
    return datetime.fromisoformat(f"2026-{month_day_time}").replace(tzinfo=UTC)


def insert_run(database: Database, schedule: str, scheduled_at: datetime, **fields: Any) -> None:
    """Insert a run that has completed, with these fields replaced."""
    defaults = {
        "trigger": "cron",
        "state": "completed",
        "definition": {},
        "concurrent": False,
        "planned_at": scheduled_at,
        "started_at": scheduled_at,
        "finished_at": scheduled_at + timedelta(minutes=5),
    }
    row = {"schedule": schedule, "scheduled_at": scheduled_at, **defaults, **fields}
    with database.write() as connection:
        connection.execute(insert(Run).values(**row))


class TicketDatabase:
    """A SQLite database of tickets."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.execute("CREATE TABLE tickets (id INTEGER PRIMARY KEY, body TEXT, created_at TEXT)")

    @property
    def url(self) -> str:
        """URL of the database."""
        return f"sqlite:///{self.path}"

    def insert_ticket(self, created_at: datetime, body: str = "it is broken") -> None:
        """Insert a ticket."""
        self.execute("INSERT INTO tickets (body, created_at) VALUES (?, ?)", body, f"{created_at:%Y-%m-%d %H:%M:%S}")

    def execute(self, statement: str, *values: Any) -> None:
        """Execute a statement."""
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute(statement, values)

    def query(self, query: str) -> list[Any]:
        """Return the rows of a query."""
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(query).fetchall()


class ScheduleHarness:
    """Schedules over the ticket database; nothing runs except in `tick`."""

    def __init__(self, database_url: str, folder: Path, *, redis_url: str = "redis://127.0.0.1:1/0") -> None:
        self.tickets = TicketDatabase(folder / "shop.db")
        sources = {"tickets": {"url": self.tickets.url, "query": SELECT_TICKETS}}
        self.settings = Settings(
            database_url=database_url,
            redis_url=redis_url,
            redis_timeout_seconds=0.2,
            sources=sources,
            home=folder / "home",
        )
        self.catalogue = Catalogue.load(self.settings)
        self.database = Database(database_url)
        self.pipeline = PIPELINE
        self.revision = REVISION  # of the model that answers

    def use_pipeline(self, revision: str, *, is_pinned: bool = True, **fields: Any) -> None:
        """Let new schedules name the pipeline `embed`, now of this revision, and answer it."""
        self.pipeline, self.revision = "embed", revision
        entry = {"task": "feature-extraction", "model": "org/embedder", **fields}
        if is_pinned:
            entry["revision"] = revision
        self.settings = self.settings.model_copy(update={"pipelines": {"embed": entry}})
        self.catalogue = Catalogue.load(self.settings)

    def create_schedule(self, name: str = "nightly", now: datetime = CREATED_AT, **fields: Any) -> ScheduleDefinition:
        """Create a schedule for two o'clock every night, with these fields replaced."""
        defaults: Mapping[str, Any] = {
            "pipeline": self.pipeline,
            "cron": "0 2 * * *",
            "sql": "tickets",
            "input": {"text": "body"},
            "id": "id",
        }
        if "after" in fields:
            defaults = {"pipeline": self.pipeline, "input": {"text": "output.label"}}
        fields = {**defaults, **fields}
        if "file" in fields:
            fields.pop("sql")
        definition = validation.validate(name, fields, self.settings, self.catalogue)
        registry.create(self.database, definition, now)
        return definition

    def backfill(
        self, time: str, *, now: datetime, include_completed: bool = False, name: str = "nightly"
    ) -> list[datetime]:
        """Start the run of one scheduled time again; return the scheduled times that were started."""
        span = TimeRange(utc(time), utc(time) + timedelta(minutes=1))
        result = manual_runs.backfill(
            self.database, self.catalogue, name, span, now, include_completed=include_completed
        )
        return [run.scheduled_at for run in result.started]

    def tick(self, now: datetime) -> TickResult:
        """Run everything that is due."""
        return tick.run_once(self.database, self.settings, self.catalogue, now)

    def answer_jobs(self, output: Any = None, *, failures_per_claim: int = 0, verdicts: Sequence[Verdict] = ()) -> None:
        """Answer every waiting job as a worker would, with a failure for the first ones of each claim.

        output: of every job, or a function of a job's input that returns it; bytes are a vector, None fails the job
        verdicts: of the guards, the same for each job
        """
        pipeline = self.catalogue[self.pipeline]
        claimant = leases.Claimant(
            worker_id="worker",
            pipeline=self.pipeline,
            task=pipeline.task,
            model=pipeline.model,
            revision=self.revision,
            lease_seconds=60.0,
        )
        version_id = versions.register_version(self.database, replace(MODEL_VERSION, revision=self.revision))
        default = {"label": "NEGATIVE", "score": 0.9} if output is None else output
        answer = output if callable(output) else lambda _: default
        while claimed := claims.claim(self.database, claimant, 10_000, self.settings.slice_size):
            for batch_id in {lease.batch_id for lease in claimed}:
                batch_leases = [lease for lease in claimed if lease.batch_id == batch_id]
                jobs = sorted(get_unanswered_jobs(self.database, batch_leases), key=lambda job: job.position)
                results = [
                    _job_result(job, None if number < failures_per_claim else answer(job.input), verdicts)
                    for number, job in enumerate(jobs)
                ]
                finished = {lease.slice_id for lease in batch_leases}
                with self.database.write() as connection:
                    commit.commit_results(connection, BatchCommit(batch_leases, results, finished, version_id))

    def run_schedule(self, now: datetime, output: Any = None, **answers: Any) -> None:
        """Run a schedule from planning through answers to the end."""
        self.tick(now)
        self.answer_jobs(output, **answers)
        self.tick(now + timedelta(minutes=5))

    def runs(self, name: str = "nightly") -> list[RunView]:
        """Return all runs, the oldest first."""
        return run_views.newest_runs(self.database, name, 10_000)[::-1]

    def run_states(self, name: str = "nightly") -> list[str]:
        """Return the states of all runs."""
        return [run.state.value for run in self.runs(name)]

    def input_ids(self, run: RunView) -> list[str]:
        """Return the ids of a run's inputs."""
        query = text("SELECT custom_id FROM jobs WHERE batch_id = :id ORDER BY position")
        with self.database.read() as connection:
            return list(connection.scalars(query, {"id": run.batch_id}))

    def query(self, statement: str, **parameters: Any) -> list[Any]:
        """Return the rows of a query on our database."""
        with self.database.read() as connection:
            return list(connection.execute(text(statement), parameters))

    def execute(self, statement: str, **parameters: Any) -> None:
        """Execute a statement on our database."""
        with self.database.write() as connection:
            connection.execute(text(statement), parameters)

    def event_kinds(self) -> list[str]:
        """Return the kinds of all events, in order."""
        return [row.kind for row in self.query("SELECT kind FROM events ORDER BY id")]

    def assert_consistent(self) -> None:
        """Assert that every batch of every run is consistent."""
        for row in self.query("SELECT id FROM batches"):
            audited = audit.audit_batch(self.database, row.id, self.settings.lease_seconds)
            assert audited.is_sound, audited.problems

    def environment(self, **extra: str) -> dict[str, str]:
        """Return a process's environment for these schedules, with extra settings named without BATCHMILL_."""
        settings = self.settings
        environment = {
            "DATABASE_URL": settings.database_url or "",
            "REDIS_URL": settings.redis_url or "",
            "HOME": str(settings.home_path),
            "REDIS_TIMEOUT_SECONDS": "0.2",
            "LOG_LEVEL": "error",
            "SOURCES__TICKETS__URL": self.tickets.url,
            "SOURCES__TICKETS__QUERY": settings.sources["tickets"]["query"],
            "PIPELINES": json.dumps(settings.pipelines),
        }
        return {**os.environ, **{f"BATCHMILL_{name}": value for name, value in (environment | extra).items()}}

    def start_tick_process(
        self, now: datetime, failpoint: str = "", *, options: Sequence[str] = (), stdin: int = subprocess.DEVNULL
    ) -> "subprocess.Popen[bytes]":
        """Start a process that runs everything due, with an optional failpoint."""
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "batchmill", "schedule", "tick", "--now", now.isoformat(), *options],
            env=self.environment(FAILPOINT=failpoint),
            stdin=stdin,
            stderr=subprocess.DEVNULL,
        )

    def pause_tick(self, now: datetime, point: str) -> "subprocess.Popen[bytes]":
        """Start such a process, and return when it is at the failpoint, where it waits for SIGUSR1."""
        file = self.tickets.path.parent / f"{point}-{uuid4().hex}"
        process = self.start_tick_process(now, f"{point}:pause:{file}")
        try:
            wait_until(file.exists, f"the tick to be at {point}")
        except TimeoutError:
            process.kill()
            raise
        return process

    def kill_tick(self, now: datetime, point: str) -> None:
        """Run everything due in a process that is killed at a failpoint."""
        process = tick_processes.start_tick(self.settings, self.catalogue, now, f"{point}:kill")
        process.join(WAIT_TIMEOUT_SECONDS)
        assert process.exitcode == -signal.SIGKILL

    def close(self) -> None:
        """Close the connections."""
        self.database.close()


def _job_result(job: Job, answer: Any, verdicts: Sequence[Verdict]) -> JobResult:
    if answer is None:
        return JobResult(job.lease, job.position, JobOutcome.FAILED, error_code="too_hard", error_message="too hard")
    output = {"vector": answer} if isinstance(answer, bytes) else {"output": to_json(answer)}
    return JobResult(job.lease, job.position, JobOutcome.SUCCEEDED, verdicts=tuple(verdicts), **output)
