"""What a server needs: tenants and their keys, uploaded files, running servers, usage, and events of batches.

The claim order starts with the tenant, and `tenant_turns` says which tenant is next.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
ROW_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
DOCUMENT = sa.JSON(none_as_null=True).with_variant(sa.dialects.postgresql.JSONB(none_as_null=True), "postgresql")
TIME = sa.DateTime(timezone=True)

# On SQLite in the format of the other times that SQL itself writes.
CLOCK = {"postgresql": "clock_timestamp()", "sqlite": "(strftime('%Y-%m-%d %H:%M:%f', 'now'))"}

QUEUED = {
    "slices_ordinary": "state = 'queued' AND crashes < 2 AND lost_leases < 5",
    "slices_quarantined": "state = 'queued' AND (crashes >= 2 OR lost_leases >= 5)",
}
OLD_CLAIM_ORDER = ["pipeline", "priority_rank", "deadline_ms", "jobs_ahead", "batch_created_ms", "id"]
CLAIM_ORDER = ["pipeline", "tenant", *OLD_CLAIM_ORDER[1:]]

OLD_KEY_COLUMNS = "pipeline, priority_rank, deadline_ms, jobs_ahead, batch_created_ms"
KEY_COLUMNS = f"{OLD_KEY_COLUMNS}, tenant"

NO_DEADLINE = 9_223_372_036_854_775_807
MILLISECONDS = {
    "postgresql": "CAST(floor(extract(epoch FROM {moment}) * 1000) AS bigint)",
    "sqlite": "CAST(round((julianday({moment}) - 2440587.5) * 86400000) AS INTEGER)",
}
GREATEST = {"postgresql": "greatest", "sqlite": "max"}
JOBS_AHEAD = (
    "{greatest}(NEW.start_position - NEW.start_position * b.reused / {greatest}(b.total, 1), "
    "b.succeeded + b.failed - b.reused)"
)
SET_CLAIM_ORDER = {
    "postgresql": """
CREATE OR REPLACE FUNCTION batchmill_set_claim_order() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    SELECT b.pipeline, -b.priority, {deadline_ms}, {jobs_ahead}, {created_ms}{tenant}
    INTO NEW.pipeline, NEW.priority_rank, NEW.deadline_ms, NEW.jobs_ahead, NEW.batch_created_ms{new_tenant}
    FROM batches b WHERE b.id = NEW.batch_id;
    RETURN NEW;
END $$
""",
    "sqlite": """
CREATE TRIGGER slices_set_claim_order AFTER INSERT ON slices BEGIN
    UPDATE slices SET ({columns}) = (
        SELECT b.pipeline, -b.priority, {deadline_ms}, {jobs_ahead}, {created_ms}{tenant}
        FROM batches b WHERE b.id = NEW.batch_id)
    WHERE id = NEW.id;
END
""",
}

OUTPUTS = {"postgresql": "coalesce(r.output, to_jsonb(r.vector)) AS output", "sqlite": "r.output"}
JOB_RESULTS = """
SELECT r.batch_id, r.position, j.custom_id, j.input, r.status, {output}, r.error_code, r.error_message, r.truncated,
       b.pipeline, b.task, m.model, m.revision, m.dtype, m.device, r.attempts, r.seq,
       b.created_at AS submitted_at, r.finished_at, j.passthrough, r.reused_from, r.windows, r.guards,
       j.original_input, r.vector, j.source_batch_id, j.source_position, m.adapter, m.adapter_revision{tenant}
FROM results r
JOIN jobs j ON j.batch_id = r.batch_id AND j.position = r.position
JOIN batches b ON b.id = r.batch_id
LEFT JOIN model_versions m ON m.id = r.model_version_id
"""
BATCH_STATUS = """
SELECT id AS batch_id, name, status, status NOT IN ('validating', 'in_progress', 'cancelling') AS has_ended,
       total, succeeded, failed, cancelled, expired, total - succeeded - failed - cancelled - expired AS unanswered,
       reused, ingesting AND status = 'in_progress' AS ingesting, last_seq, error_code, error_message,
       pipeline, task, model, revision, priority, metadata,
       created_at, in_progress_at, expires_at, coalesce(completed_at, failed_at, expired_at, cancelled_at) AS ended_at
       {tenant}
FROM batches
"""

# For autoscalers: a pipeline has a row until all its batches have ended. A batch that is read in or cancelled needs a
# process too, because maintenance may have to finish it. Indexes of open batches and of open slices answer it.
PIPELINE_BACKLOG = """
SELECT b.pipeline,
       CAST(sum((SELECT count(*) FROM slices s WHERE s.batch_id = b.id AND s.state = 'queued')) AS bigint)
           AS queued_slices,
       CAST(sum((SELECT count(*) FROM slices s WHERE s.batch_id = b.id AND s.state = 'leased')) AS bigint)
           AS leased_slices,
       CAST(sum(b.total - b.succeeded - b.failed - b.cancelled - b.expired) AS bigint) AS unanswered_jobs,
       count(*) AS open_batches, min(b.created_at) AS oldest_created_at
FROM batches b WHERE b.status IN ('validating', 'in_progress', 'cancelling')
GROUP BY b.pipeline
"""


def upgrade() -> None:
    """Create the tables, add the columns and change the claim order."""
    _tenants()
    _files()
    _usage()
    _batch_events()
    _batches()
    op.add_column("schedules", _tenant())
    _slices(CLAIM_ORDER, KEY_COLUMNS, tenant=", b.tenant", new_tenant=", NEW.tenant")
    for name, query in _views(tenant=True).items():
        _replace_view(name, query)
    op.execute(f"CREATE VIEW pipeline_backlog AS{PIPELINE_BACKLOG}")


def downgrade() -> None:
    """Drop all that; on PostgreSQL the views need their grants again, and no two tenants may have the same key."""
    for name in ("job_results", "batch_status", "pipeline_backlog"):
        op.execute(f"DROP VIEW {name}")
    _slices(OLD_CLAIM_ORDER, OLD_KEY_COLUMNS, tenant="", new_tenant="")
    for table in ("slices", "schedules"):
        op.drop_column(table, "tenant")
    for name in ("batches_newest_of_tenant", "batches_of_file", "batches_to_read", "batches_open_of_tenant"):
        op.drop_index(name, "batches")
    op.drop_index("batches_idempotency_key", "batches")
    op.create_index("batches_idempotency_key", "batches", ["idempotency_key"], unique=True)
    for column in (
        "tenant",
        "endpoint",
        "completion_window",
        "input_file_id",
        "read_request",
        "input_errors",
        "response_options",
        "webhook_url",
    ):
        op.drop_column("batches", column)
    for table in ("batch_events", "usage", "tenant_turns", "servers", "files", "api_keys"):
        op.drop_table(table)
    for name, query in _views(tenant=False).items():
        op.execute(f"CREATE VIEW {name} AS{query}")


def _tenants() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", KEY, primary_key=True),
        _tenant(None),
        sa.Column("name", sa.Text),
        sa.Column("scopes", DOCUMENT, nullable=False),
        sa.Column("secret_hash", sa.Text, nullable=False),
        sa.Column("created_at", TIME, nullable=False, server_default=_clock()),
        sa.Column("expires_at", TIME),
        sa.Column("revoked_at", TIME),
        sa.Column("last_used_at", TIME),
    )
    op.create_table(
        "tenant_turns",
        sa.Column("pipeline", KEY, primary_key=True),
        sa.Column("tenant", KEY, primary_key=True),
        sa.Column("served_jobs", sa.BigInteger, nullable=False, server_default="0"),
    )
    op.create_table(
        "servers",
        sa.Column("id", KEY, primary_key=True),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("uploads", sa.Text, nullable=False),
        sa.Column("started_at", TIME, nullable=False, server_default=_clock()),
        sa.Column("heartbeat_at", TIME, nullable=False, server_default=_clock()),
    )


def _files() -> None:
    op.create_table(
        "files",
        sa.Column("id", KEY, primary_key=True),
        _tenant(None),
        sa.Column("filename", sa.Text, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("location", sa.Text),
        sa.Column("bytes", sa.BigInteger),
        sa.Column("rows", sa.BigInteger),
        sa.Column("sha256", sa.Text),
        sa.Column("batch_id", KEY),
        sa.Column("etag", sa.Text),
        sa.Column("created_at", TIME, nullable=False, server_default=_clock()),
        sa.Column("expires_at", TIME),
        sa.Column("deleted_at", TIME),
    )
    op.create_index("files_newest_of_tenant", "files", ["tenant", "created_at", "id"])
    _partial_index("files_of_batch", "files", ["batch_id"], "batch_id IS NOT NULL")
    _partial_index("files_expiring", "files", ["expires_at"], "expires_at IS NOT NULL")
    _partial_index("files_deleted", "files", ["deleted_at"], "deleted_at IS NOT NULL")


def _usage() -> None:
    op.create_table(
        "usage",
        sa.Column("day", sa.Text, primary_key=True),
        sa.Column("tenant", KEY, primary_key=True),
        sa.Column("pipeline", KEY, primary_key=True),
        sa.Column("shard", sa.Integer, primary_key=True, autoincrement=False),
        *(_counter(name) for name in ("succeeded", "failed", "tokens", "padded_tokens")),
        sa.Column("device_seconds", sa.Double, nullable=False, server_default="0"),
    )


def _batch_events() -> None:
    op.create_table(
        "batch_events",
        sa.Column("id", ROW_ID, sa.Identity(), primary_key=True),
        sa.Column("batch_id", KEY, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("payload", DOCUMENT, nullable=False),
        sa.Column("occurred_at", TIME, nullable=False, server_default=_clock()),
        sa.Column("webhook_url", sa.Text, nullable=False),
        sa.Column("delivery_attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("next_delivery_at", TIME),
        sa.Column("delivered_at", TIME),
        sqlite_autoincrement=True,
    )
    op.create_index("batch_events_of_batch", "batch_events", ["batch_id"])
    _partial_index("batch_events_to_deliver", "batch_events", ["next_delivery_at"], "next_delivery_at IS NOT NULL")


def _batches() -> None:
    op.add_column("batches", _tenant())
    for name in ("endpoint", "completion_window", "webhook_url"):
        op.add_column("batches", sa.Column(name, sa.Text))
    op.add_column("batches", sa.Column("input_file_id", KEY))
    for name in ("read_request", "input_errors", "response_options"):
        op.add_column("batches", sa.Column(name, DOCUMENT))
    op.drop_index("batches_idempotency_key", "batches")
    op.create_index("batches_idempotency_key", "batches", ["tenant", "idempotency_key"], unique=True)
    op.create_index("batches_newest_of_tenant", "batches", ["tenant", "created_at", "id"])
    _partial_index("batches_of_file", "batches", ["input_file_id"], "input_file_id IS NOT NULL")
    _partial_index("batches_to_read", "batches", ["id"], "read_request IS NOT NULL")
    _partial_index(
        "batches_open_of_tenant", "batches", ["tenant"], "status IN ('validating', 'in_progress', 'cancelling')"
    )


def _slices(claim_order: list[str], columns: str, *, tenant: str, new_tenant: str) -> None:
    """Set the claim order, and replace the trigger that copies it from the batch."""
    dialect = op.get_bind().dialect.name
    if tenant:
        op.add_column("slices", _tenant())
    for name, condition in QUEUED.items():
        op.drop_index(name, "slices")
        _partial_index(name, "slices", claim_order, condition)
    milliseconds = MILLISECONDS[dialect]
    if dialect == "sqlite":
        op.execute("DROP TRIGGER slices_set_claim_order")
    op.execute(
        SET_CLAIM_ORDER[dialect].format(
            columns=columns,
            tenant=tenant,
            new_tenant=new_tenant,
            deadline_ms=f"coalesce({milliseconds}, {NO_DEADLINE})".format(moment="b.expires_at"),
            created_ms=milliseconds.format(moment="b.created_at"),
            jobs_ahead=JOBS_AHEAD.format(greatest=GREATEST[dialect]),
        )
    )


def _views(*, tenant: bool) -> dict[str, str]:
    output = OUTPUTS[op.get_bind().dialect.name]
    return {
        "job_results": JOB_RESULTS.format(output=output, tenant=", b.tenant" if tenant else ""),
        "batch_status": BATCH_STATUS.format(tenant=", tenant" if tenant else ""),
    }


def _replace_view(name: str, query: str) -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute(f"DROP VIEW {name}")
        op.execute(f"CREATE VIEW {name} AS{query}")
    else:
        op.execute(f"CREATE OR REPLACE VIEW {name} AS{query}")


def _tenant(default: str | None = "default") -> sa.Column[str]:
    return sa.Column("tenant", KEY, nullable=False, server_default=default)


def _counter(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default="0")


def _clock() -> sa.TextClause:
    return sa.text(CLOCK[op.get_bind().dialect.name])


def _partial_index(name: str, table: str, columns: list[str], condition: str) -> None:
    where = sa.text(condition)
    op.create_index(name, table, columns, postgresql_where=where, sqlite_where=where)
