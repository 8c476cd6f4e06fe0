"""Three roles on PostgreSQL that own nothing: each does its whole job, by real processes."""

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

import batchmill
from models.db import Database
from models.postgresql.grants import Purpose
from models.settings import Settings
from models.states import AttemptOutcome
from tests import database_roles
from tests.database_roles import DatabaseRoles
from tests.deployment import Deployment, wait_for
from tests.factories.batch_rows import claimant_for, execute, expire_leases, insert_batch
from tests.faults.fake_model import FAKE_PIPELINE, daily_schedule, fake_model_deployment, numbered_texts, to_jsonl
from worker.leasing import reclaim
from worker.leasing.claiming import claims
from worker.maintenance import tasks

GUARDS = """
[pipelines.fake.guards.last]
on = "input"
words = ["000199"]
action = "redact"
"""
REDACTED = "SELECT position FROM jobs WHERE batch_id = :id AND redacted"
COMPLETED = "SELECT scheduled_at, batch_id FROM runs WHERE state = 'completed' ORDER BY scheduled_at"


@pytest.fixture
def given(postgresql_url: str) -> Iterator[DatabaseRoles]:
    with database_roles.temporary_roles(postgresql_url) as found:
        found.grant(Purpose.READER)
        found.grant(Purpose.SUBMITTER)
        found.grant(Purpose.WORKER, create_tables=True)
        yield found


@dataclass(frozen=True)
class User:
    """Who runs commands as a role, in the tests' own process."""

    environment: dict[str, str]

    @classmethod
    def of(cls, deployment: Deployment, given: DatabaseRoles, purpose: Purpose) -> "User":
        ours_are = {name: value for name, value in deployment.environment.items() if name.startswith("BATCHMILL_")}
        return cls(ours_are | {"BATCHMILL_DATABASE_URL": given.url_for(purpose)})

    def run(self, *command: str, stdin: bytes = b"") -> str:
        """What a command says that ends well."""
        result = CliRunner().invoke(batchmill.cli, command, input=stdin, env=self.environment)
        assert result.exit_code == 0, (command, result.stderr)
        return result.stdout

    def submit(self, *more: str, texts: list[str]) -> str:
        """The id of a batch that was accepted."""
        batch_id: str = json.loads(
            self.run("submit", "-", "--pipeline", FAKE_PIPELINE, "--json", *more, stdin=to_jsonl(texts))
        )["id"]
        return batch_id


def test_each_role_does_its_whole_job(tmp_path: Path, given: DatabaseRoles, redis_url: str) -> None:
    schedule = daily_schedule(tmp_path, numbered_texts(20))
    settings = {"database_url": given.url_for(Purpose.WORKER), "redis_url": redis_url}
    with fake_model_deployment(tmp_path, guards=GUARDS, **settings) as works:
        worker, submitter, reader = (User.of(works, given, purpose) for purpose in reversed([*Purpose]))
        submitter.run(*schedule)
        works.start("worker", FAKE_PIPELINE, "--devices", "cpu", FAKE_FORWARD_SECONDS="0.02")
        [pid] = works.wait_for_workers()

        submitter.run("schedule", "trigger", "daily")
        first = submitter.submit("--idempotency-key", "one", texts=numbered_texts(200))
        submitter.run("wait", first)
        again = submitter.submit("--reuse", texts=[*numbered_texts(100), "new"])
        submitter.run("wait", again)
        cancelled = submitter.submit("--on-invalid", "fail-row", texts=["", *numbered_texts(4000)])
        os.kill(pid, signal.SIGKILL)
        submitter.run("cancel", cancelled)
        submitter.run("retry", cancelled, "--status", "cancelled")
        submitter.run("cancel", cancelled)
        works.assert_completed(first, 200)
        assert works.query(REDACTED, id=first) == [(199,)]
        works.assert_consistent(cancelled)
        wait_for(lambda: works.query(COMPLETED), "a run of the schedule")

        for command in (
            ("ls",),
            ("show", first),
            ("results", first),
            ("errors", cancelled),
            ("attempts", first),
            ("audit",),
            ("workers",),
            ("schedule", "ls"),
            ("schedule", "show", "daily"),
            ("schedule", "history", "daily"),
            ("schedule", "report", "daily"),
            ("schedule", "metrics"),
            ("doctor",),
            ("watch", first),
            ("results", again, "-o", str(tmp_path / "a.csv")),
        ):
            for user in (reader, submitter, worker):
                user.run(*command)
        for action in ("suspend", "resume", "delete"):
            submitter.run("schedule", action, "daily")
        submitter.run("delete", first)
        submitter.run("prune", "--older-than", "0s")
        assert "lacks" not in works.log


def test_every_duty_has_its_rights(given: DatabaseRoles, tmp_path: Path, redis_url: str) -> None:
    """Given something to do for each of them."""
    database = Database(given.url_for(Purpose.WORKER))
    settings = Settings(redis_url=redis_url, retention_days=0, home=tmp_path, submit_timeout_seconds=1)
    lapsed, late, gone, cut, old = (insert_batch(database, 6, slice_size=2) for _ in range(5))
    [lease, *_] = claims.claim(database, claimant_for(), 2, 2)
    expire_leases(database, lease)
    execute(database, "UPDATE slices SET crashes = 1 WHERE id = :id", id=lease.slice_id)
    execute(database, "UPDATE batches SET expires_at = created_at WHERE id = :id", id=late)
    execute(database, "UPDATE batches SET status = 'validating', idempotency_key = 'k' WHERE id = :id", id=gone)
    execute(database, "UPDATE batches SET status = 'cancelling', terminating_as = 'cancelled' WHERE id = :id", id=cut)
    execute(database, "UPDATE batches SET status = 'completed', completed_at = created_at WHERE id = :id", id=old)
    execute(database, "UPDATE slices SET available_at = now() + interval '1 day' WHERE batch_id = :id", id=lapsed)
    reclaim.reclaim_from_worker(database, "nobody", AttemptOutcome.CRASHED, 3)

    done = {task.name: task.run() for task in tasks.default_tasks(database, settings) if task.name != "schedules"}

    assert {name for name, did in done.items() if did} >= {
        "reclaim",
        "deadlines",
        "terminations",
        "abandoned_submissions",
        "retention",
    }
    database.close()
