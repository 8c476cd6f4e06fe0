"""The first migration: the tables of batches, jobs, slices, results, attempts and workers, and two views."""

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
DOCUMENT = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
ROW_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
TIMESTAMP = sa.DateTime(timezone=True)

NOW = {"postgresql": "clock_timestamp()", "sqlite": "(strftime('%Y-%m-%d %H:%M:%f', 'now'))"}

TABLES = (
    "batches",
    "jobs",
    "slices",
    "model_versions",
    "results",
    "superseded_results",
    "attempts",
    "maintenance_tasks",
    "workers",
    "load_failures",
    "token_budgets",
)

VIEWS = {
    "job_results": """
SELECT r.batch_id, r.position, j.custom_id, j.input, r.status, r.output, r.error_code, r.error_message, r.truncated,
       b.pipeline, b.task, m.model, m.revision, m.dtype, m.device, r.attempts, r.seq,
       b.created_at AS submitted_at, r.finished_at, j.passthrough, r.reused_from
FROM results r
JOIN jobs j ON j.batch_id = r.batch_id AND j.position = r.position
JOIN batches b ON b.id = r.batch_id
LEFT JOIN model_versions m ON m.id = r.model_version_id
""",
    # A job's history: each claim of a slice with this job, up to the one that answered it, including earlier retries.
    "job_attempts": """
SELECT j.batch_id, j.position, j.custom_id, a.attempt, a.outcome, a.error_code, a.error_message, a.worker_id,
       a.slice_id, a.fencing_token, a.claimed_at, a.ended_at
FROM jobs j
JOIN attempts a ON a.batch_id = j.batch_id AND a.start_position <= j.position AND a.end_position > j.position
LEFT JOIN results r ON r.batch_id = j.batch_id AND r.position = j.position
WHERE r.finished_at IS NULL OR a.claimed_at IS NULL OR a.claimed_at <= r.finished_at
""",
}


def upgrade() -> None:
    """Create all tables, views and triggers."""
    _batches()
    _jobs()
    _slices()
    _model_versions()
    _results()
    _superseded_results()
    _attempts()
    _maintenance_tasks()
    _workers()
    _load_failures()
    _token_budgets()
    for name, query in VIEWS.items():
        op.execute(f"CREATE VIEW {name} AS{query}")
    _claim_order()
    if _on_postgresql():
        _delete_with_batch()
        _set_statistics()


def downgrade() -> None:
    """Drop all tables, views and triggers."""
    for name in VIEWS:
        op.execute(f"DROP VIEW {name}")
    for table in reversed(TABLES):
        op.drop_table(table)
    if _on_postgresql():
        for function in ("delete_batch", "set_claim_order", "update_claim_order"):
            op.execute(f"DROP FUNCTION batchmill_{function}()")


# Tables


def _batches() -> None:
    op.create_table(
        "batches",
        sa.Column("id", KEY, primary_key=True),
        sa.Column("name", sa.Text),
        sa.Column("pipeline", sa.Text, nullable=False),
        sa.Column("task", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("revision", sa.Text),
        sa.Column("parameters", DOCUMENT, nullable=False),
        sa.Column("metadata", DOCUMENT, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False, server_default="0"),
        sa.Column("status", sa.Text, nullable=False),
        *(_counter(name) for name in ("total", "succeeded", "failed", "cancelled", "expired", "reused", "last_seq")),
        *(_counter(name) for name in ("tokens", "padded_tokens")),
        sa.Column("device_seconds", sa.Double, nullable=False, server_default="0"),
        sa.Column("max_failures", sa.BigInteger),
        sa.Column("max_attempts", sa.Integer),
        sa.Column("terminating_as", sa.Text),
        sa.Column("error_code", sa.Text),
        sa.Column("error_message", sa.Text),
        sa.Column("idempotency_key", KEY),
        sa.Column("request_fingerprint", sa.Text),
        _counter("rows_read"),
        sa.Column("rows_digest", sa.Text),
        sa.Column("ingesting", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("output_cache_key", KEY),
        sa.Column("holder_id", sa.Text),
        sa.Column("created_at", TIMESTAMP, nullable=False, server_default=_now()),
        sa.Column("holder_heartbeat_at", TIMESTAMP),
        *(
            sa.Column(f"{name}_at", TIMESTAMP)
            for name in ("in_progress", "expires", "completed", "failed", "expired", "cancelling", "cancelled")
        ),
    )
    _index("batches_in_progress", "batches", ["pipeline", "task", "revision"], "status = 'in_progress'")
    _index("batches_newest", "batches", ["created_at", "id"])
    _index("batches_idempotency_key", "batches", ["idempotency_key"], unique=True)
    _index("batches_output_cache_key", "batches", ["output_cache_key", "created_at"])
    _index("batches_ingesting", "batches", ["id"], "ingesting")
    _index("batches_transitioning", "batches", ["id"], "status IN ('validating', 'cancelling')")


def _jobs() -> None:
    op.create_table(
        "jobs",
        *_job_key(),
        sa.Column("custom_id", KEY),
        sa.Column("input", DOCUMENT, nullable=False),
        sa.Column("passthrough", DOCUMENT),
        sqlite_with_rowid=False,
    )
    _index("jobs_custom_id", "jobs", ["batch_id", "custom_id"], "custom_id IS NOT NULL", unique=True)


def _slices() -> None:
    counted = ("attempts", "crashes", "lost_leases", "retries")
    times = ("lease_expires_at", "available_at", "first_claimed_at", "leased_at", "done_at")
    op.create_table(
        "slices",
        sa.Column("id", ROW_ID, sa.Identity(), primary_key=True),
        _batch_id(nullable=False),
        sa.Column("start_position", sa.BigInteger, nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        *(sa.Column(name, sa.Integer, nullable=False, server_default="0") for name in counted),
        _counter("fencing_token"),
        sa.Column("worker_id", sa.Text),
        *(sa.Column(name, TIMESTAMP) for name in times),
        sa.Column("pipeline", sa.Text),
        sa.Column("priority_rank", sa.Integer),
        *(sa.Column(name, sa.BigInteger) for name in ("deadline_ms", "jobs_ahead", "batch_created_ms")),
        **NEVER_REUSE_IDS,
    )
    _index("slices_of_batch", "slices", ["batch_id", "start_position"])
    _index("slices_queued", "slices", ["batch_id", "id"], "state = 'queued'")
    _index("slices_leased", "slices", ["batch_id"], "state = 'leased'")
    _index("slices_ordinary", "slices", CLAIM_ORDER, "state = 'queued' AND crashes < 2 AND lost_leases < 5")
    _index("slices_quarantined", "slices", CLAIM_ORDER, "state = 'queued' AND (crashes >= 2 OR lost_leases >= 5)")


def _model_versions() -> None:
    texts = ("task", "model", "revision", "tokenizer", "tokenizer_revision", "dtype")
    op.create_table(
        "model_versions",
        sa.Column("id", ROW_ID, sa.Identity(), primary_key=True),
        sa.Column("fingerprint", KEY, nullable=False, unique=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in texts),
        sa.Column("quantization", sa.Text),
        sa.Column("attention", sa.Text, nullable=False),
        sa.Column("device", sa.Text, nullable=False),
        sa.Column("libraries", DOCUMENT, nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False, server_default=_now()),
    )


def _results() -> None:
    op.create_table(
        "results",
        *_job_key(),
        sa.Column("seq", sa.BigInteger, nullable=False),
        *_job_outcome(),
        sa.Column("reused_from", KEY),
        sa.Column("finished_at", TIMESTAMP, nullable=False, server_default=_now()),
        sqlite_with_rowid=False,
    )
    _index("results_seq", "results", ["batch_id", "seq"], unique=True)
    _index("results_failed", "results", ["batch_id", "position"], "status = 'failed'")


def _superseded_results() -> None:
    op.create_table(
        "superseded_results",
        *_job_key(),
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        *_job_outcome(),
        sa.Column("finished_at", TIMESTAMP, nullable=False),
        sa.Column("superseded_at", TIMESTAMP, nullable=False, server_default=_now()),
        sqlite_with_rowid=False,
    )


def _attempts() -> None:
    op.create_table(
        "attempts",
        sa.Column("id", ROW_ID, sa.Identity(), primary_key=True),
        _batch_id(nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("slice_id", "start_position", "end_position")),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("fencing_token", sa.BigInteger, nullable=False),
        sa.Column("worker_id", sa.Text),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("error_code", sa.Text),
        sa.Column("error_message", sa.Text),
        sa.Column("claimed_at", TIMESTAMP),
        sa.Column("ended_at", TIMESTAMP, nullable=False, server_default=_now()),
        **NEVER_REUSE_IDS,
    )
    _index("attempts_of_batch", "attempts", ["batch_id", "start_position"])


def _maintenance_tasks() -> None:
    op.create_table(
        "maintenance_tasks",
        sa.Column("name", KEY, primary_key=True),
        sa.Column("next_run_at", TIMESTAMP, nullable=False),
        sa.Column("last_run_at", TIMESTAMP),
        sa.Column("last_run_by", sa.Text),
        sa.Column("last_effect_at", TIMESTAMP),
        sa.Column("last_effect", sa.Text),
        sa.Column("last_failed_at", TIMESTAMP),
        sa.Column("last_failure", sa.Text),
    )


def _workers() -> None:
    op.create_table(
        "workers",
        sa.Column("id", KEY, primary_key=True),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("device", sa.Text, nullable=False),
        sa.Column("pipeline", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("revision", sa.Text),
        sa.Column("served_pipelines", DOCUMENT, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("state_since", TIMESTAMP),
        sa.Column("started_at", TIMESTAMP, nullable=False, server_default=_now()),
        sa.Column("heartbeat_at", TIMESTAMP, nullable=False, server_default=_now()),
    )


def _load_failures() -> None:
    op.create_table(
        "load_failures",
        sa.Column("worker_name", KEY, primary_key=True),
        sa.Column("pipeline", KEY, primary_key=True),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("device", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("revision", sa.Text),
        sa.Column("error_code", sa.Text, nullable=False),
        sa.Column("error_message", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("first_failed_at", TIMESTAMP, nullable=False, server_default=_now()),
        sa.Column("last_failed_at", TIMESTAMP, nullable=False, server_default=_now()),
        sa.Column("next_attempt_at", TIMESTAMP, nullable=False),
    )


def _token_budgets() -> None:
    op.create_table(
        "token_budgets",
        sa.Column("pipeline", KEY, primary_key=True),
        sa.Column("device", KEY, primary_key=True),
        sa.Column("dtype", KEY, primary_key=True),
        sa.Column("micro_batch_tokens", sa.BigInteger, nullable=False),
        sa.Column("tuned_at", TIMESTAMP, nullable=False, server_default=_now()),
    )


# Columns that several tables have

# SQLite reuses the id of the last row once that row is deleted, and a new slice starts with the same fencing token. A
# lease on a deleted batch would then be valid for another batch's slice. AUTOINCREMENT prevents the reuse, as identity
# columns do on PostgreSQL. Model versions are never deleted, so they do not need it.
NEVER_REUSE_IDS: dict[str, Any] = {"sqlite_autoincrement": True}


def _batch_id(**options: Any) -> sa.Column[str]:
    return sa.Column("batch_id", KEY, sa.ForeignKey("batches.id", ondelete="CASCADE"), **options)


def _job_key() -> Iterator[sa.Column[Any]]:
    """Yield the key columns of a job, without a foreign key on PostgreSQL; see `_delete_with_batch`."""
    yield sa.Column("batch_id", KEY, primary_key=True) if _on_postgresql() else _batch_id(primary_key=True)
    yield sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False)


def _job_outcome() -> Iterator[sa.Column[Any]]:
    yield sa.Column("status", sa.Text, nullable=False)
    yield sa.Column("output", DOCUMENT)
    yield sa.Column("error_code", sa.Text)
    yield sa.Column("error_message", sa.Text)
    yield sa.Column("truncated", sa.Boolean, nullable=False)
    yield sa.Column("attempts", sa.Integer, nullable=False)
    yield sa.Column("slice_id", sa.BigInteger)
    yield sa.Column("fencing_token", sa.BigInteger)
    model_version = [] if _on_postgresql() else [sa.ForeignKey("model_versions.id")]
    yield sa.Column("model_version_id", ROW_ID, *model_version)


def _counter(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default="0")


# Two indexes hold queued slices in the order in which they are claimed: one for ordinary and one for quarantined ones.
# The key of the order is copied from the batch when a slice is inserted, and when the batch's priority or deadline
# changes. Triggers copy it, so that no writer of slices can forget it.

CLAIM_ORDER = ["pipeline", "priority_rank", "deadline_ms", "jobs_ahead", "batch_created_ms", "id"]
NO_DEADLINE = 9_223_372_036_854_775_807

MILLISECONDS = {
    "postgresql": "CAST(floor(extract(epoch FROM {moment}) * 1000) AS bigint)",
    "sqlite": "CAST(round((julianday({moment}) - 2440587.5) * 86400000) AS INTEGER)",
}
GREATEST = {"postgresql": "greatest", "sqlite": "max"}

# Reused results do not count as served. The value is at least the jobs served before the insert, as on a retry.
JOBS_AHEAD = (
    "{greatest}(NEW.start_position - NEW.start_position * b.reused / {greatest}(b.total, 1), "
    "b.succeeded + b.failed - b.reused)"
)

# A cached plan would keep a sequential scan that was right only while the tables were small.
CLAIM_ORDER_ON_POSTGRESQL = (
    """
CREATE FUNCTION batchmill_set_claim_order() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    SELECT b.pipeline, -b.priority, {deadline_ms}, {jobs_ahead}, {created_ms}
    INTO NEW.pipeline, NEW.priority_rank, NEW.deadline_ms, NEW.jobs_ahead, NEW.batch_created_ms
    FROM batches b WHERE b.id = NEW.batch_id;
    RETURN NEW;
END $$
""",
    """
CREATE TRIGGER slices_set_claim_order BEFORE INSERT ON slices FOR EACH ROW EXECUTE FUNCTION batchmill_set_claim_order()
""",
    """
CREATE FUNCTION batchmill_update_claim_order() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    UPDATE slices SET pipeline = NEW.pipeline, priority_rank = -NEW.priority, deadline_ms = {new_deadline_ms},
           batch_created_ms = {new_created_ms}
    WHERE batch_id = NEW.id AND state <> 'done';
    RETURN NULL;
END $$
""",
    """
CREATE TRIGGER batches_update_claim_order AFTER UPDATE OF pipeline, priority, expires_at, created_at ON batches
FOR EACH ROW
WHEN ((OLD.pipeline, OLD.priority, OLD.expires_at, OLD.created_at)
      IS DISTINCT FROM (NEW.pipeline, NEW.priority, NEW.expires_at, NEW.created_at))
EXECUTE FUNCTION batchmill_update_claim_order()
""",
)

CLAIM_ORDER_ON_SQLITE = (
    """
CREATE TRIGGER slices_set_claim_order AFTER INSERT ON slices BEGIN
    UPDATE slices SET (pipeline, priority_rank, deadline_ms, jobs_ahead, batch_created_ms) = (
        SELECT b.pipeline, -b.priority, {deadline_ms}, {jobs_ahead}, {created_ms}
        FROM batches b WHERE b.id = NEW.batch_id)
    WHERE id = NEW.id;
END
""",
    """
CREATE TRIGGER batches_update_claim_order AFTER UPDATE OF pipeline, priority, expires_at, created_at ON batches
WHEN OLD.pipeline IS NOT NEW.pipeline OR OLD.priority IS NOT NEW.priority OR OLD.expires_at IS NOT NEW.expires_at
     OR OLD.created_at IS NOT NEW.created_at
BEGIN
    UPDATE slices SET pipeline = NEW.pipeline, priority_rank = -NEW.priority, deadline_ms = {new_deadline_ms},
           batch_created_ms = {new_created_ms}
    WHERE batch_id = NEW.id AND state <> 'done';
END
""",
)


def _claim_order() -> None:
    dialect = op.get_bind().dialect.name
    milliseconds = MILLISECONDS[dialect]
    deadline = f"coalesce({milliseconds}, {NO_DEADLINE})"
    for statement in CLAIM_ORDER_ON_POSTGRESQL if _on_postgresql() else CLAIM_ORDER_ON_SQLITE:
        op.execute(
            statement.format(
                deadline_ms=deadline.format(moment="b.expires_at"),
                created_ms=milliseconds.format(moment="b.created_at"),
                new_deadline_ms=deadline.format(moment="NEW.expires_at"),
                new_created_ms=milliseconds.format(moment="NEW.created_at"),
                jobs_ahead=JOBS_AHEAD.format(greatest=GREATEST[dialect]),
            )
        )


# PostgreSQL checks a foreign key with a separate query per row, which doubles the time of an insert. Each transaction
# that inserts jobs or results has locked the batch's row, so the check is redundant. A trigger replaces the cascading
# delete. On SQLite foreign keys are cheap and stay.

DELETE_WITH_BATCH = (
    """
CREATE FUNCTION batchmill_delete_batch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM results WHERE batch_id = OLD.id;
    DELETE FROM superseded_results WHERE batch_id = OLD.id;
    DELETE FROM jobs WHERE batch_id = OLD.id;
    RETURN NULL;
END $$
""",
    """
CREATE TRIGGER batches_deleted AFTER DELETE ON batches FOR EACH ROW EXECUTE FUNCTION batchmill_delete_batch()
""",
)


def _delete_with_batch() -> None:
    for statement in DELETE_WITH_BATCH:
        op.execute(statement)


# Fixed statistics keep PostgreSQL's plans stable. Real statistics on key columns mislead the planner: right after a
# submission they do not contain the new batch. PostgreSQL then expects one row, runs nested loops over a million, and a
# page takes a minute. Statistics are therefore off for the columns of batch, position and state. Two temporary example
# rows leave permanent statistics instead: a batch's rows are adjacent and a twentieth of the table, and many may have
# failed. With these PostgreSQL uses the index that was made for pages.

EXAMPLE_STATISTICS = """
INSERT INTO jobs (batch_id, position, input) VALUES ('a', 0, '{}'), ('b', 0, '{}');
INSERT INTO results (batch_id, position, seq, status, truncated, attempts)
VALUES ('a', 0, 1, 'failed', false, 1), ('b', 0, 1, 'succeeded', false, 1);
ALTER TABLE jobs ALTER COLUMN batch_id SET (n_distinct = 20);
ALTER TABLE results ALTER COLUMN batch_id SET (n_distinct = 20), ALTER COLUMN status SET (n_distinct = 2);
ANALYZE jobs (batch_id);
ANALYZE results (batch_id, status);
TRUNCATE jobs, results;
"""

# Small tables without ANALYZE: PostgreSQL assumes ten full pages for a table that was never analysed.
KNOWN_SMALL = ("batches", "model_versions", "workers", "slices", "attempts", "superseded_results")

WITHOUT_STATISTICS = {
    "jobs": ("batch_id", "position"),
    "results": ("batch_id", "position", "seq", "status", "slice_id", "fencing_token", "model_version_id"),
    "superseded_results": ("batch_id", "position", "seq", "slice_id", "fencing_token", "model_version_id"),
    "slices": ("batch_id", "start_position", "state", *CLAIM_ORDER[:-1]),
    "attempts": ("batch_id", "slice_id", "start_position", "end_position", "fencing_token"),
}


def _set_statistics() -> None:
    op.execute(EXAMPLE_STATISTICS)
    for table in KNOWN_SMALL:
        op.execute(f"ANALYZE {table}")
    for table, columns in WITHOUT_STATISTICS.items():
        changes = ", ".join(f"ALTER COLUMN {column} SET STATISTICS 0" for column in columns)
        op.execute(f"ALTER TABLE {table} {changes}")


def _index(name: str, table: str, columns: list[str], where: str | None = None, *, unique: bool = False) -> None:
    condition = None if where is None else sa.text(where)
    op.create_index(name, table, columns, unique=unique, postgresql_where=condition, sqlite_where=condition)


def _now() -> sa.TextClause:
    return sa.text(NOW[op.get_bind().dialect.name])


def _on_postgresql() -> bool:
    return op.get_bind().dialect.name == "postgresql"
