"""The audit names whatever is wrong with a batch's rows, and finds nothing in sound ones."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing

import psycopg
import pytest
from click.testing import CliRunner, Result
from sqlalchemy import event

import batchmill
from models import vectors
from models.db import Database
from models.errors import NotFound
from models.guards.definition import Guard
from models.guards.verdict import Verdict
from models.states import BatchStatus, JobOutcome
from producer.batches import views
from producer.batches.actions.cancel import cancel
from producer.batches.actions.retry import RetrySelection, retry_jobs
from producer.health import audit
from tests.factories import consistent_batch
from tests.factories.batch_rows import (
    MODEL_VERSION,
    assert_consistent,
    claimant_for,
    expire_leases,
    get_unanswered_jobs,
    insert_batch,
)
from tests.factories.consistent_batch import BATCH_ID, execute_all
from tests.terminals import output_on_terminal
from worker.leasing import commit, reclaim
from worker.leasing.claiming import claims
from worker.leasing.job_results import BatchCommit, JobResult
from worker.loading import versions

LEASE_SECONDS = 30.0


def corrupt(database_url: str, statement: str) -> None:
    """Change rows past every constraint that could forbid it."""
    if database_url.startswith("sqlite"):
        with closing(sqlite3.connect(database_url.removeprefix("sqlite:///"))) as file:
            file.execute("PRAGMA foreign_keys = OFF")
            file.execute(statement)
            file.commit()
        return
    with psycopg.connect(database_url.replace("+psycopg", "")) as server:
        server.execute("SET session_replication_role = replica")
        server.execute(statement)


def problems(database: Database) -> list[audit.AuditProblem]:
    return list(audit.audit_batch(database, BATCH_ID, LEASE_SECONDS).problems)


class TestSound:
    def test_midway(self, database: Database) -> None:
        consistent_batch.insert_batch_in_progress(database)

        batch_audit = audit.audit_batch(database, BATCH_ID, LEASE_SECONDS)

        assert (batch_audit.jobs, batch_audit.problems, batch_audit.is_sound) == (12, (), True)

    @pytest.mark.parametrize("outcome", ["cancelled", "expired", "failed"])
    def test_ending_early_and_ended(self, database: Database, outcome: str) -> None:
        consistent_batch.insert_batch_in_progress(database)
        consistent_batch.begin_termination(database, outcome)
        assert problems(database) == []

        consistent_batch.close_jobs(database, outcome, 8, 9, 10, 11, seq_offset=2)
        assert problems(database) == []

        execute_all(database, f"UPDATE batches SET status = '{outcome}', terminating_as = NULL")
        assert problems(database) == []

    def test_completed(self, database: Database) -> None:
        consistent_batch.insert_batch_in_progress(database)
        consistent_batch.terminate(database, "failed")
        execute_all(database, "UPDATE batches SET status = 'completed'")

        assert problems(database) == []

    def test_what_is_not_accepted_yet_promises_nothing(self, database: Database) -> None:
        consistent_batch.insert_batch_in_progress(database)
        execute_all(
            database,
            "DELETE FROM slices",
            "DELETE FROM superseded_results",
            "DELETE FROM results WHERE status <> 'failed'",
            "UPDATE batches SET status = 'validating', total = 0, succeeded = 0, failed = 0, last_seq = 0",
        )

        assert problems(database) == []

    def test_claims_from_before_they_were_recorded(self, database: Database) -> None:
        consistent_batch.insert_batch_in_progress(database)
        execute_all(database, "DELETE FROM attempts", "UPDATE slices SET leased_at = NULL")

        assert problems(database) == []

    def test_it_waits_for_no_writer_and_sees_one_moment(self, database: Database) -> None:
        consistent_batch.insert_batch_in_progress(database)

        with database.snapshot() as before:
            counted = "SELECT count(*) FROM results"
            first = before.exec_driver_sql(counted).scalar()
            with database.write() as writing:
                writing.exec_driver_sql("DELETE FROM results")
                assert problems(database) == []
            assert before.exec_driver_sql(counted).scalar() == first == 6
        assert problems(database) != []


class TestLived:
    """A batch that really goes through it all is sound after each step."""

    @pytest.fixture
    def step(self, database: Database) -> Callable[[], None]:
        """Work on what can be claimed, one slice; every other job fails."""
        version_id = versions.register_version(database, MODEL_VERSION)

        def run_one() -> None:
            [lease, *others] = claims.claim(database, claimant_for(), 4, 4)
            answers = [
                JobResult(lease, job.position, JobOutcome.FAILED, error_code="model_error", error_message="No.")
                if job.position % 2
                else JobResult(lease, job.position, JobOutcome.SUCCEEDED, output="{}")
                for job in get_unanswered_jobs(database, [lease])
            ]
            with database.write() as connection:
                commit.commit_results(connection, BatchCommit([lease], answers, {lease.slice_id}, version_id))
                claims.release(connection, others)

        return run_one

    def test_cancelled_then_replayed(self, database: Database, step: Callable[[], None]) -> None:
        batch_id = insert_batch(database, 16)
        for _ in range(2):
            step()
            assert_consistent(database, batch_id)
        claims.claim(database, claimant_for(), 4, 4)
        assert_consistent(database, batch_id)

        cancel(database, batch_id)
        assert_consistent(database, batch_id)

        for choice in (RetrySelection((JobOutcome.FAILED, JobOutcome.CANCELLED)), RetrySelection()):
            retry_jobs(database, batch_id, choice, 4)
            assert_consistent(database, batch_id)
            while views.get_batch(database, batch_id).status is BatchStatus.IN_PROGRESS:
                step()
                assert_consistent(database, batch_id)
        assert views.get_batch(database, batch_id).counts.as_dict()["succeeded"] == 8

    def test_split_since_its_workers_died(self, database: Database, step: Callable[[], None]) -> None:
        batch_id = insert_batch(database, 8)
        split: list[int] = []
        while not split:
            [lease, *_] = claims.claim(database, claimant_for(), 4, 4)
            expire_leases(database, lease)
            split = reclaim.reclaim_expired(database, 9).split
            assert_consistent(database, batch_id)
        step()
        assert_consistent(database, batch_id)


# What is done to a sound batch, what the audit calls it, with which numbers, and where.
CORRUPTED = [
    ("DELETE FROM results WHERE position = 2", "counter_mismatch", "it counts 5 succeeded, its results are 4", ()),
    ("DELETE FROM results WHERE position = 2", "seq_mismatch", "its last_seq is 7, there are 6 results", (3,)),
    ("DELETE FROM results WHERE position = 2", "unassigned", ": 1", (2,)),
    ("UPDATE results SET seq = 8 WHERE position = 2", "seq_mismatch", "there are 7 results, from seq 1 to 8", (3,)),
    ("UPDATE superseded_results SET seq = 3", "seq_mismatch", "there are 7 results, from seq 2 to 7", (1,)),
    ("UPDATE superseded_results SET seq = 3", "duplicate_seq", ": 1", (3,)),
    ("UPDATE batches SET succeeded = 6", "counter_mismatch", "it counts 6 succeeded, its results are 5", ()),
    ("UPDATE batches SET failed = 0", "counter_mismatch", "it counts 0 failed, its results are 1", ()),
    ("UPDATE batches SET cancelled = 1", "counter_mismatch", "it counts 1 cancelled, its results are 0", ()),
    ("UPDATE batches SET expired = 1", "counter_mismatch", "it counts 1 expired, its results are 0", ()),
    ("UPDATE batches SET last_seq = 6", "seq_mismatch", "its last_seq is 6, there are 7 results", ()),
    ("UPDATE batches SET total = 11", "position_mismatch", "its total is 11, there are 12 jobs, from 0 to 11", ()),
    ("DELETE FROM jobs WHERE position = 9", "position_mismatch", "its total is 12, there are 11 jobs", (9,)),
    ("DELETE FROM jobs WHERE position IN (0, 1)", "position_mismatch", "there are 10 jobs, from 2 to 11", (0,)),
    ("DELETE FROM jobs WHERE position IN (2, 3)", "orphan_result", ": 2", (2, 3)),
    ("DELETE FROM jobs WHERE position = 0", "orphan_result", ": 2", (0, 0)),
    ("DELETE FROM slices WHERE id = 1", "slice_missing", ": 4", (0, 1, 2, 3)),
    ("DELETE FROM slices WHERE id = 6", "unassigned", ": 4", (8, 9, 10, 11)),
    ("UPDATE slices SET start_position = 9, size = 3 WHERE id = 6", "unassigned", ": 1", (8,)),
    ("UPDATE slices SET start_position = 5, size = 7 WHERE id = 6", "assigned_twice", ": 2", (5, 6)),
    ("UPDATE slices SET size = 5 WHERE id = 6", "slice_out_of_range", ": 1", (6,)),
    ("UPDATE slices SET state = 'lost' WHERE id = 6", "unknown_slice_status", ": 1", (6,)),
    ("UPDATE slices SET worker_id = NULL WHERE id = 3", "incomplete_lease", ": 1", (3,)),
    ("UPDATE slices SET lease_expires_at = NULL WHERE id = 3", "incomplete_lease", ": 1", (3,)),
    ("UPDATE slices SET fencing_token = 1 WHERE id = 1", "fencing_token_ahead", ": 2", (2, 3)),
    ("UPDATE results SET slice_id = 6 WHERE position = 4", "fencing_token_ahead", ": 1", (4,)),
    ("UPDATE results SET slice_id = 1 WHERE position = 4", "wrong_slice", ": 1", (4,)),
    ("DELETE FROM attempts WHERE outcome = 'lease_expired'", "unknown_claim", ": 1", (4,)),
    ("DELETE FROM attempts WHERE fencing_token = 1", "unknown_claim", ": 3", (0, 1, 4)),
    ("UPDATE results SET fencing_token = NULL WHERE position = 3", "unfenced_result", ": 1", (3,)),
    ("UPDATE jobs SET invalid = true WHERE position = 3", "invalid_row_run", ": 1", (3,)),
    ("UPDATE results SET model_version_id = NULL WHERE position = 3", "unfenced_result", ": 1", (3,)),
    ("UPDATE results SET model_version_id = 77 WHERE position > 2", "unknown_model", ": 3", (3, 4, 7)),
    (
        "UPDATE results SET status = 'lost' WHERE position = 7",
        "unknown_outcome",
        "it has results with an unknown outcome",
        (),
    ),
    ("UPDATE batches SET status = 'completed'", "not_ended", "it is completed, but 6 of its 12 jobs have ended", ()),
    ("UPDATE batches SET status = 'completed'", "unanswered_job", ": 6", (5, 6, 8, 9, 10)),
    ("UPDATE batches SET status = 'cancelled'", "unanswered_job", ": 6", (5, 6, 8, 9, 10)),
    ("UPDATE batches SET status = 'expired'", "unfinished_slice", ": 3", (3, 4, 6)),
    ("UPDATE batches SET status = 'cancelling', terminating_as = 'failed'", "unfinished_slice", ": 3", (3, 4, 6)),
    (
        "UPDATE batches SET status = 'cancelling'",
        "missing_terminating_as",
        "it is cancelling, but terminating_as is not set",
        (),
    ),
    ("UPDATE batches SET status = 'lost'", "unknown_status", "its status is 'lost'", ()),
]


@pytest.mark.parametrize(("statement", "code", "words", "places"), CORRUPTED)
def test_what_is_wrong_is_named(
    database: Database, database_url: str, statement: str, code: str, words: str, places: tuple[int, ...]
) -> None:
    consistent_batch.insert_batch_in_progress(database)

    corrupt(database_url, statement)

    matches = [problem for problem in problems(database) if problem.code == code]
    assert [(problem.places, problem.is_warning) for problem in matches] == [(places, False)]
    assert words in matches[0].message

    if database.engine.dialect.name == "postgresql":
        execute_all(database, "ALTER TABLE slices ALTER COLUMN id RESTART WITH 100")
    neighbours = [insert_batch(database, 3), insert_batch(database, 5, id="batch_zz")]
    audits = {batch_audit.batch_id: batch_audit.problems for batch_audit in audit.audit_all(database, LEASE_SECONDS)}
    assert audits == {BATCH_ID: tuple(problems(database)), **dict.fromkeys(neighbours, ())}


GUARDED = [
    (
        "UPDATE batch_guards SET passed = 3",
        "guard_mismatch",
        "it counts 3 passed by the guard g, its results are 1",
        (),
    ),
    ("DELETE FROM batch_guards", "guard_mismatch", "it counts 0 passed, 0 redacted by the guard g", ()),
    ("UPDATE results SET guards = NULL WHERE position = 1", "guard_mismatch", "its results are 0", ()),
    ("UPDATE batches SET guarded = false", "not_guarded", "it has no guards, but 2 results have verdicts", ()),
    ("UPDATE jobs SET redacted = true WHERE position = 1", "redacted_without_verdict", ": 1", (1,)),
    ("UPDATE jobs SET redacted = false, original_input = NULL", "redaction_not_stored", ": 1", (0,)),
    ("UPDATE jobs SET original_input = input WHERE position > 1", "original_of_unredacted", ": 2", (2, 3)),
]


@pytest.mark.parametrize(("statement", "code", "words", "places"), GUARDED)
def test_what_is_wrong_with_guards_is_named(
    database: Database, database_url: str, statement: str, code: str, words: str, places: tuple[int, ...]
) -> None:
    guards = {"g": Guard(on="input", action="redact", words=("x",), keep_original=True)}
    batch_id = insert_batch(database, 4, guards=guards)
    [lease] = claims.claim(database, claimant_for(guards=guards), 4, 4)
    answers = [
        JobResult(lease, position, JobOutcome.SUCCEEDED, output="{}", verdicts=[Verdict("g", "input", action)])
        for position, action in enumerate(("redact", "pass"))
    ]
    answers[0].redacted_input, answers[0].keep_original = '{"text": ""}', True
    version_id = versions.register_version(database, MODEL_VERSION)
    with database.write() as connection:
        commit.commit_results(connection, BatchCommit([lease], answers, (), version_id, guards=guards))
    assert audit.audit_batch(database, batch_id, LEASE_SECONDS).problems == ()

    corrupt(database_url, statement)

    [problem] = audit.audit_batch(database, batch_id, LEASE_SECONDS).problems
    assert (problem.code, problem.places, problem.is_warning) == (code, places, False)
    assert words in problem.message


VECTORS = [vectors.from_numbers([0.5, -0.25, position]) for position in range(4)]
BAD_VECTORS = [
    ("output = '[1]'", "wrong_outputs", ": 1", (2,)),
    ("vector = NULL", "wrong_outputs", ": 1", (2,)),
    ("status = 'failed'", "wrong_outputs", ": 1", (2,)),
    ("vector = {nan}", "invalid_vector", ": 1", (2,)),
    ("vector = {infinite}", "invalid_vector", ": 1", (2,)),
    ("vector = {empty}", "invalid_vector", ": 1", (2,)),
    ("vector = {long}", "unequal_vectors", ": 1", (2,)),
    ("vector = {short}", "unequal_vectors", ": 3", (0, 1, 3)),
]
LITERALS = {
    "postgresql": {
        "nan": "'{1,2,NaN}'",
        "infinite": "'{1,2,-Infinity}'",
        "empty": "'{}'",
        "long": "'{1,2,3,4}'",
        "short": "'{1}'",
    },
    "sqlite": {
        "nan": "x'0000803F0000803F0000C07F'",
        "infinite": "x'0000803F0000803F000080FF'",
        "empty": "x''",
        "long": "zeroblob(16)",
        "short": "zeroblob(4)",
    },
}


@pytest.mark.parametrize(("change", "code", "words", "places"), BAD_VECTORS)
def test_what_is_wrong_with_vectors_is_named(
    database: Database, database_url: str, change: str, code: str, words: str, places: tuple[int, ...]
) -> None:
    batch_id = insert_batch(database, 4)
    [lease] = claims.claim(database, claimant_for(), 4, 4)
    answers = [
        JobResult(lease, position, JobOutcome.SUCCEEDED, vector=vector) for position, vector in enumerate(VECTORS)
    ]
    version_id = versions.register_version(database, MODEL_VERSION)
    with database.write() as connection:
        commit.commit_results(connection, BatchCommit([lease], answers, {lease.slice_id}, version_id))
    assert audit.audit_batch(database, batch_id, LEASE_SECONDS).problems == ()

    changed = change.format(**LITERALS[database.engine.dialect.name])
    corrupt(database_url, f"UPDATE results SET {changed} WHERE position = 2")

    [problem] = [
        problem
        for problem in audit.audit_batch(database, batch_id, LEASE_SECONDS).problems
        if problem.code != "counter_mismatch"
    ]
    assert (problem.code, problem.places, problem.is_warning) == (code, places, False)
    assert words in problem.message


BAD_ORIGINS = [
    ("jobs SET source_position = 1 WHERE position = 3", "duplicate_origin", ": 1", (3,)),
    ("jobs SET source_batch_id = 'batch_other' WHERE position = 2", "wrong_origin", ": 1", (2,)),
    ("jobs SET source_batch_id = NULL WHERE position > 1", "wrong_origin", ": 2", (2, 3)),
    ("batches SET source_batch_id = NULL", "wrong_origin", ": 4", (0, 1, 2, 3)),
]


@pytest.mark.parametrize(("change", "code", "words", "places"), BAD_ORIGINS)
def test_what_is_wrong_with_origins_is_named(
    database: Database, database_url: str, change: str, code: str, words: str, places: tuple[int, ...]
) -> None:
    batch_id = insert_batch(database, 4)
    execute_all(
        database,
        "UPDATE batches SET source_batch_id = 'batch_deleted'",
        "UPDATE jobs SET source_batch_id = 'batch_deleted', source_position = 3 - position",
    )
    assert audit.audit_batch(database, batch_id, LEASE_SECONDS).problems == ()

    corrupt(database_url, f"UPDATE {change}")

    [problem] = audit.audit_batch(database, batch_id, LEASE_SECONDS).problems
    assert (problem.code, problem.places, problem.is_warning) == (code, places, False)
    assert words in problem.message


def test_a_batch_that_is_over_but_does_not_say_so_is_named(database: Database) -> None:
    consistent_batch.insert_batch_in_progress(database)
    consistent_batch.terminate(database)

    execute_all(database, "UPDATE batches SET status = 'in_progress'")

    assert [problem.code for problem in problems(database)] == ["not_completed"]


def test_a_lease_that_nobody_reclaims_is_a_warning(database: Database) -> None:
    consistent_batch.insert_batch_in_progress(database)

    execute_all(database, "UPDATE slices SET lease_expires_at = '2026-01-01 00:00:00' WHERE state = 'leased'")

    batch_audit = audit.audit_batch(database, BATCH_ID, LEASE_SECONDS)
    assert [(problem.code, problem.places, problem.is_warning) for problem in batch_audit.problems] == [
        ("lease_expired", (3,), True)
    ]
    assert batch_audit.is_sound


@pytest.mark.parametrize(("page", "group"), [(1, 1), (2, 500), (3, 2), (10_000, 500)])
def test_every_batch_has_its_turn(database: Database, monkeypatch: pytest.MonkeyPatch, page: int, group: int) -> None:
    monkeypatch.setattr(audit, "PAGE_BATCHES", page)
    monkeypatch.setattr(audit, "GROUP_BATCHES", group)
    columns = "pipeline, task, model, parameters, metadata, status"
    for number in range(5):
        execute_all(
            database, f"INSERT INTO batches (id, {columns}) VALUES ('b{number}', 'p', 't', 'm', '{{}}', '{{}}', 'lost')"
        )

    audits = list(audit.audit_all(database, LEASE_SECONDS))

    assert [batch_audit.batch_id for batch_audit in audits] == ["b0", "b1", "b2", "b3", "b4"]
    assert [problem.batch_id for entry in audits for problem in entry.problems] == ["b0", "b1", "b2", "b3", "b4"]


@pytest.mark.parametrize(
    ("jobs", "groups"),
    [([], []), ([9], [1]), ([1] * 5, [3, 2]), ([4, 4, 4], [2, 1]), ([11, 0, 10], [1, 2]), ([99, 99], [1, 1])],
)
def test_small_batches_are_audited_together(
    monkeypatch: pytest.MonkeyPatch, jobs: list[int], groups: list[int]
) -> None:
    monkeypatch.setattr(audit, "GROUP_BATCHES", 3)
    monkeypatch.setattr(audit, "GROUP_JOBS", 10)
    batches = [(f"b{number}", total) for number, total in enumerate(jobs)]

    grouped = list(audit.group_batches(batches))

    assert [len(group) for group in grouped] == groups
    assert [batch_id for group in grouped for batch_id in group] == [batch_id for batch_id, _ in batches]


def test_few_statements_audit_many_batches(database: Database) -> None:
    for _ in range(20):
        insert_batch(database, 2)
    statements: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))

    assert len(list(audit.audit_all(database, LEASE_SECONDS))) == 20

    assert len([statement for statement in statements if "FROM" in statement]) <= 10


def test_progress_is_shown_on_a_terminal(database: Database) -> None:
    insert_batch(database, 2)

    assert "1/1 batches" in output_on_terminal(["audit"], "stderr")


def test_there_must_be_a_batch(database: Database) -> None:
    with pytest.raises(NotFound, match="batchmill ls"):
        audit.audit_batch(database, "batch_nope", LEASE_SECONDS)


class TestCommand:
    @pytest.fixture(autouse=True)
    def environment(self, database_url: str, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BATCHMILL_DATABASE_URL", database_url)
        consistent_batch.insert_batch_in_progress(database)

    @staticmethod
    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(batchmill.cli, ["audit", *arguments])

    @pytest.mark.parametrize("arguments", [(), (BATCH_ID,)])
    def test_a_sound_one_is_said_to_be(self, arguments: tuple[str, ...]) -> None:
        result = self.invoke(*arguments)

        assert result.exit_code == 0
        assert result.stdout == "audited 1 batch, 12 jobs: nothing lost, nothing twice\n"

    def test_a_problem_is_a_line_and_exit_1(self, database: Database) -> None:
        execute_all(database, "UPDATE batches SET expired = 1", "DELETE FROM slices WHERE id = 6")

        result = self.invoke()

        assert result.exit_code == 1
        assert result.stdout.splitlines() == [
            f"problem  {BATCH_ID}  it counts 1 expired, its results are 0",
            f"problem  {BATCH_ID}  unanswered jobs in no slice that will be run: 4 (positions 8, 9, 10, 11)",
            "audited 1 batch, 12 jobs: 2 problems",
        ]

    def test_a_warning_is_exit_0(self, database: Database) -> None:
        execute_all(database, "UPDATE slices SET lease_expires_at = '2026-01-01 00:00:00' WHERE state = 'leased'")

        result = self.invoke()

        assert result.exit_code == 0
        assert [line.split()[0] for line in result.stdout.splitlines()] == ["warning", "audited"]

    def test_json(self, database: Database) -> None:
        sound = self.invoke("--json")
        execute_all(database, "DELETE FROM slices WHERE id = 6")
        result = self.invoke(BATCH_ID, "--json")

        assert (sound.exit_code, result.exit_code) == (0, 1)
        assert json.loads(sound.stdout) == {"object": "audit", "batches": 1, "jobs": 12, "sound": True, "problems": []}
        [problem] = json.loads(result.stdout)["problems"]
        assert (problem["batch_id"], problem["code"], problem["level"]) == (BATCH_ID, "unassigned", "problem")
        assert problem["locations"] == [{"position": position} for position in (8, 9, 10, 11)]

    def test_an_unknown_batch_is_exit_4(self) -> None:
        assert self.invoke("batch_nope").exit_code == 4
