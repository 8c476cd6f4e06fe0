"""Queued slices lie in the order in which they are claimed, and those that must run alone lie apart.

The key of that order is copied from the batch: when a slice comes in, and when its batch is given another priority or
deadline. Triggers do it, so that no writer of slices can forget it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

NEVER = 9_223_372_036_854_775_807

COLUMNS = (
    ("pipeline", sa.Text),
    ("rank", sa.Integer),
    ("due", sa.BigInteger),
    ("ahead", sa.BigInteger),
    ("since", sa.BigInteger),
)

INDEXES = (
    ("slices_ordinary", "state = 'queued' AND deaths < 2 AND lapses < 5"),
    ("slices_quarantined", "state = 'queued' AND (deaths >= 2 OR lapses >= 5)"),
)
KEY = ["pipeline", "rank", "due", "ahead", "since", "id"]

MILLISECONDS = {
    "postgresql": "CAST(floor(extract(epoch FROM {moment}) * 1000) AS bigint)",
    "sqlite": "CAST(round((julianday({moment}) - 2440587.5) * 86400000) AS INTEGER)",
}
GREATEST = {"postgresql": "greatest", "sqlite": "max"}

# What was reused is not served. Never less than what the batch was served before the slice was laid, as by a replay.
AHEAD = "{greatest}({first} - {first} * b.reused / {greatest}(b.total, 1), b.succeeded + b.failed - b.reused)"

FILL = """
UPDATE slices SET pipeline = b.pipeline, rank = -b.priority, due = {due}, ahead = {ahead}, since = {since}
FROM batches b WHERE b.id = slices.batch_id AND {which}
"""

# A cached plan would go on with a scan that was right while the tables were small.
ON_POSTGRESQL = """
CREATE FUNCTION batchmill_place_slice() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    SELECT b.pipeline, -b.priority, {due}, {ahead}, {since}
    INTO NEW.pipeline, NEW.rank, NEW.due, NEW.ahead, NEW.since
    FROM batches b WHERE b.id = NEW.batch_id;
    RETURN NEW;
END $$;
CREATE TRIGGER slices_placed BEFORE INSERT ON slices FOR EACH ROW EXECUTE FUNCTION batchmill_place_slice();
CREATE FUNCTION batchmill_move_batch() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    UPDATE slices SET pipeline = NEW.pipeline, rank = -NEW.priority, due = {new_due}, since = {new_since}
    WHERE batch_id = NEW.id AND state <> 'done';
    RETURN NULL;
END $$;
CREATE TRIGGER batches_moved AFTER UPDATE OF pipeline, priority, expires_at, created_at ON batches FOR EACH ROW
WHEN ((OLD.pipeline, OLD.priority, OLD.expires_at, OLD.created_at)
      IS DISTINCT FROM (NEW.pipeline, NEW.priority, NEW.expires_at, NEW.created_at))
EXECUTE FUNCTION batchmill_move_batch()
"""

ON_SQLITE = (
    """
CREATE TRIGGER slices_placed AFTER INSERT ON slices BEGIN
    UPDATE slices SET (pipeline, rank, due, ahead, since) = (
        SELECT b.pipeline, -b.priority, {due}, {ahead}, {since} FROM batches b WHERE b.id = NEW.batch_id)
    WHERE id = NEW.id;
END
""",
    """
CREATE TRIGGER batches_moved AFTER UPDATE OF pipeline, priority, expires_at, created_at ON batches
WHEN OLD.pipeline IS NOT NEW.pipeline OR OLD.priority IS NOT NEW.priority OR OLD.expires_at IS NOT NEW.expires_at
     OR OLD.created_at IS NOT NEW.created_at
BEGIN
    UPDATE slices SET pipeline = NEW.pipeline, rank = -NEW.priority, due = {new_due}, since = {new_since}
    WHERE batch_id = NEW.id AND state <> 'done';
END
""",
)


def upgrade() -> None:
    """Add the key, fill it for what is open, and keep it."""
    for name, kind in COLUMNS:
        op.add_column("slices", sa.Column(name, kind))
    op.execute(_sql(FILL.replace("{which}", "slices.state <> 'done'"), "slices.first"))
    for name, which in INDEXES:
        op.create_index(name, "slices", KEY, postgresql_where=sa.text(which), sqlite_where=sa.text(which))
    op.drop_index("batches_in_progress", "batches")
    _in_progress(["pipeline", "task", "revision"])
    if _on_postgresql():
        op.execute(_sql(ON_POSTGRESQL, "NEW.first"))
        for name, _ in COLUMNS:  # PostgreSQL plans by what it knows of the table's size alone, as for the other keys
            op.execute(f"ALTER TABLE slices ALTER COLUMN {name} SET STATISTICS 0")
        return
    for trigger in ON_SQLITE:
        op.execute(_sql(trigger, "NEW.first"))


def downgrade() -> None:
    """Take it away again."""
    of_table = {"slices_placed": " ON slices", "batches_moved": " ON batches"} if _on_postgresql() else {}
    for name in ("slices_placed", "batches_moved"):
        op.execute(f"DROP TRIGGER {name}{of_table.get(name, '')}")
    if _on_postgresql():
        op.execute("DROP FUNCTION batchmill_place_slice()")
        op.execute("DROP FUNCTION batchmill_move_batch()")
    op.drop_index("batches_in_progress", "batches")
    _in_progress(["pipeline", "created_at"])
    for name, _ in INDEXES:
        op.drop_index(name, "slices")
    for name, _ in COLUMNS:
        op.drop_column("slices", name)


def _in_progress(columns: list[str]) -> None:
    where = sa.text("status = 'in_progress'")
    op.create_index("batches_in_progress", "batches", columns, postgresql_where=where, sqlite_where=where)


def _sql(statement: str, first: str) -> str:
    dialect = op.get_bind().dialect.name
    milliseconds = MILLISECONDS[dialect]
    due = "coalesce(" + milliseconds + f", {NEVER})"
    return statement.format(
        due=due.format(moment="b.expires_at"),
        since=milliseconds.format(moment="b.created_at"),
        new_due=due.format(moment="NEW.expires_at"),
        new_since=milliseconds.format(moment="NEW.created_at"),
        ahead=AHEAD.format(greatest=GREATEST[dialect], first=first),
    )


def _on_postgresql() -> bool:
    return op.get_bind().dialect.name == "postgresql"
