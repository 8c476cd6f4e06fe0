"""Nights in a test: a shop whose tickets are a source, a clock that is handed in, and answers without a model."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import text

from models.db import Database
from models.documents import as_json
from models.pipelines.catalogue import Catalogue
from models.settings import Settings
from models.states import Outcome
from producer.health import audit
from producer.schedules import registry, validation
from producer.schedules.definition import Schedule
from producer.schedules.runs import run_views, tick
from producer.schedules.runs.run_views import RunView
from producer.schedules.runs.tick import Tick
from tests.batches_made import REVISION, VERSION, pending
from worker.leasing import claims, commit, leases
from worker.leasing.commit import Answer
from worker.loading import versions

PIPELINE = "sample-sentiment-analysis"
EVENING = datetime(2026, 3, 1, 20, 0, tzinfo=UTC)
TICKETS = "SELECT id, body FROM tickets WHERE created_at >= :since AND created_at < :until ORDER BY id"


def at(said: str) -> datetime:
    """A moment of 2026 in UTC, such as `03-02 02:00`."""
    return datetime.fromisoformat(f"2026-{said}").replace(tzinfo=UTC)


class Shop:
    """A SQLite database that gets tickets."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.write("CREATE TABLE tickets (id INTEGER PRIMARY KEY, body TEXT, created_at TEXT)")

    @property
    def url(self) -> str:
        """Its address."""
        return f"sqlite:///{self.path}"

    def open_ticket(self, when: datetime, body: str = "it is broken") -> None:
        """A customer writes."""
        self.write("INSERT INTO tickets (body, created_at) VALUES (?, ?)", body, f"{when:%Y-%m-%d %H:%M:%S}")

    def write(self, statement: str, *values: Any) -> None:
        """Run a statement."""
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute(statement, values)

    def rows(self, query: str) -> list[Any]:
        """Rows of a query."""
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(query).fetchall()


class Nights:
    """Schedules over a shop; nothing happens but at `tick`."""

    def __init__(self, database_url: str, folder: Path, *, redis_url: str = "redis://127.0.0.1:1/0") -> None:
        self.shop = Shop(folder / "shop.db")
        sources = {"tickets": {"url": self.shop.url, "query": TICKETS}}
        self.settings = Settings(
            database_url=database_url, redis_url=redis_url, publish_seconds=0.2, sources=sources, home=folder / "home",
        )  # fmt: skip
        self.catalogue = Catalogue.load(self.settings)
        self.database = Database(database_url)
        self.revision = REVISION  # of the model that answers

    def create(self, name: str = "nightly", now: datetime = EVENING, **fields: Any) -> Schedule:
        """A schedule for two every night, unless the fields say otherwise."""
        usual: Mapping[str, Any] = {
            "pipeline": PIPELINE, "cron": "0 2 * * *", "sql": "tickets", "input": {"text": "body"}, "id": "id",
        }  # fmt: skip
        fields = {**usual, **fields}
        if "file" in fields:
            fields.pop("sql")
        definition = validation.admitted(name, fields, self.settings, self.catalogue)
        registry.create(self.database, definition, now)
        return definition

    def tick(self, now: datetime) -> Tick:
        """Do what is due."""
        return tick.run_once(self.database, self.settings, self.catalogue, now)

    def answer(self, output: Any = None, *, failing: int = 0) -> None:
        """Answer every job that waits, as a worker would, the first ones of each claim with a failure."""
        pipeline = self.catalogue[PIPELINE]
        claimant = leases.Claimant(
            worker_id="worker", pipeline=PIPELINE, task=pipeline.task, model=pipeline.model, revision=self.revision,
            lease_seconds=60.0,
        )  # fmt: skip
        version_id = versions.register(self.database, replace(VERSION, revision=self.revision))
        usual = {"label": "NEGATIVE", "score": 0.9} if output is None else output
        while claimed := claims.take(self.database, claimant, 10_000, self.settings.slice_jobs):
            for batch_id in {lease.batch_id for lease in claimed}:
                ours = [lease for lease in claimed if lease.batch_id == batch_id]
                jobs = sorted(pending(self.database, ours), key=lambda job: job.position)
                answers = [
                    Answer(job.lease, job.position, Outcome.FAILED, error_code="too_hard", error_message="too hard")
                    if number < failing
                    else Answer(job.lease, job.position, Outcome.SUCCEEDED, as_json(usual))
                    for number, job in enumerate(jobs)
                ]
                finished = {lease.slice_id for lease in ours}
                with self.database.write() as connection:
                    commit.close(connection, self.database.sql, answers, ours, finished, version_id)

    def night(self, now: datetime, output: Any = None) -> None:
        """A whole night: the slot, the answers, the end."""
        self.tick(now)
        self.answer(output)
        self.tick(now + timedelta(minutes=5))

    def runs(self, name: str = "nightly") -> list[RunView]:
        """All runs, the first slot first."""
        return run_views.newest(self.database, name, 10_000)[::-1]

    def states(self, name: str = "nightly") -> list[str]:
        """What they came to."""
        return [run.state.value for run in self.runs(name)]

    def read(self, run: RunView) -> list[str]:
        """The ids that a run took in."""
        query = text("SELECT custom_id FROM jobs WHERE batch_id = :id ORDER BY position")
        with self.database.read() as connection:
            return list(connection.scalars(query, {"id": run.batch_id}))

    def query(self, statement: str, **named: Any) -> list[Any]:
        """Rows of a query on our database."""
        with self.database.read() as connection:
            return list(connection.execute(text(statement), named))

    def write(self, statement: str, **named: Any) -> None:
        """Change something behind everybody's back."""
        with self.database.write() as connection:
            connection.execute(text(statement), named)

    def events(self) -> list[str]:
        """The kinds of all events, in order."""
        return [row.kind for row in self.query("SELECT kind FROM events ORDER BY id")]

    def audit(self) -> None:
        """Every batch of every run is sound."""
        for row in self.query("SELECT id FROM batches"):
            audited = audit.one(self.database, row.id, self.settings.lease_seconds)
            assert audited.sound, audited.problems

    def environment(self, **more: str) -> dict[str, str]:
        """What a process needs to look after these schedules; `more` are variables besides, without BATCHMILL_."""
        settings = self.settings
        ours = {
            "DATABASE_URL": settings.database_url or "", "REDIS_URL": settings.redis_url or "",
            "HOME": str(settings.home_path), "PUBLISH_SECONDS": "0.2", "LOG_LEVEL": "error",
            "SOURCES__TICKETS__URL": self.shop.url, "SOURCES__TICKETS__QUERY": settings.sources["tickets"]["query"],
        }  # fmt: skip
        return {**os.environ, **{f"BATCHMILL_{name}": value for name, value in (ours | more).items()}}

    def start_tick(
        self, now: datetime, failpoint: str = "", *, options: Sequence[str] = (), stdin: int = subprocess.DEVNULL
    ) -> "subprocess.Popen[bytes]":
        """Do what is due in a process of its own, to which something may happen on the way."""
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "batchmill", "schedule", "tick", "--now", now.isoformat(), *options],
            env=self.environment(FAILPOINT=failpoint), stdin=stdin, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def close(self) -> None:
        """Return the connections."""
        self.database.close()
