"""PostgreSQL plans the same way whatever its statistics say, and a row comes in without a look at its batch.

Statistics of a key's column mislead: right after a submit they know the batches before and not this one, so PostgreSQL
expects one row of it, joins by nested loops over a million, and a page takes a minute. So none are gathered any more
for the columns that say which batch, where in it, and in which state; and while the tables are empty, two rows are put
in and taken out again that leave behind what holds well enough for ever: that a batch's rows lie together and are a
twentieth of its table, and that many of them may have failed. From that PostgreSQL walks the index that a page is made
for. Tables that have rows already go by its defaults, which are a little worse.

A foreign key is looked up for each row, by a query of its own: as long again as all else that an insert does. Whoever
inserts jobs or results has locked their batch's row in the same transaction, so there is nothing to look up. What the
keys did besides, to delete all that is of a deleted batch, a trigger does. SQLite is content with both.
"""

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

KEY_COLUMNS = {
    "jobs": ("batch_id", "position"),
    "results": ("batch_id", "position", "seq", "status", "slice_id", "token", "model_version_id"),
    "past_results": ("batch_id", "position", "seq", "slice_id", "token", "model_version_id"),
    "slices": ("batch_id", "first", "state"),
    "attempts": ("batch_id", "slice_id", "first", "past", "token"),
}
TYPES = {"batch_id": 'text COLLATE "C"', "status": "text", "state": "text"}  # the others are bigint

FOREIGN_KEYS = (
    ("jobs", "batch_id", "batches"),
    ("results", "batch_id", "batches"),
    ("past_results", "batch_id", "batches"),
    ("results", "model_version_id", "model_versions"),
    ("past_results", "model_version_id", "model_versions"),
)

CASCADE = """
CREATE FUNCTION batchmill_delete_batch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM results WHERE batch_id = OLD.id;
    DELETE FROM past_results WHERE batch_id = OLD.id;
    DELETE FROM jobs WHERE batch_id = OLD.id;
    RETURN NULL;
END $$
"""

TRIGGER = """
CREATE TRIGGER batches_deleted AFTER DELETE ON batches FOR EACH ROW EXECUTE FUNCTION batchmill_delete_batch()
"""

EXEMPLARY = """
INSERT INTO jobs (batch_id, position, input) VALUES ('a', 0, '{}'), ('b', 0, '{}');
INSERT INTO results (batch_id, position, seq, status, truncated, attempts)
VALUES ('a', 0, 1, 'failed', false, 1), ('b', 0, 1, 'succeeded', false, 1);
ALTER TABLE jobs ALTER COLUMN batch_id SET (n_distinct = 20);
ALTER TABLE results ALTER COLUMN batch_id SET (n_distinct = 20), ALTER COLUMN status SET (n_distinct = 2);
ANALYZE jobs (batch_id);
ANALYZE results (batch_id, status);
TRUNCATE jobs, results;
"""

# Small tables that nothing ever analyses: PostgreSQL takes those for ten pages that are full.
KNOWN_SMALL = ("batches", "model_versions", "workers", "slices", "attempts", "past_results")

VIEWS = """
SELECT viewname, definition FROM pg_views
WHERE viewname IN ('job_results', 'job_attempts') AND schemaname = current_schema()
"""


def upgrade() -> None:
    """Gather no more statistics of these columns, forget those there are, and let the trigger take the keys' place."""
    if not _on_postgresql():
        return
    op.execute(CASCADE)
    op.execute(TRIGGER)
    for table, column, _ in FOREIGN_KEYS:
        op.drop_constraint(f"{table}_{column}_fkey", table)
    _forget()
    if op.get_bind().scalar(sa.text("SELECT NOT EXISTS (SELECT 1 FROM jobs) AND NOT EXISTS (SELECT 1 FROM results)")):
        op.execute(EXEMPLARY)
    for table in KNOWN_SMALL:
        op.execute(f"ANALYZE {table}")
    for table, column in _columns():
        op.execute(f"ALTER TABLE {table} ALTER COLUMN {column} SET STATISTICS 0")


def downgrade() -> None:
    """Gather them again, and look up every row's batch."""
    if not _on_postgresql():
        return
    for table, column in _columns():
        op.execute(f"ALTER TABLE {table} ALTER COLUMN {column} SET STATISTICS -1")
        op.execute(f"ALTER TABLE {table} ALTER COLUMN {column} RESET (n_distinct)")
    for table, column, there in FOREIGN_KEYS:
        ondelete = "CASCADE" if there == "batches" else None
        op.create_foreign_key(f"{table}_{column}_fkey", table, there, [column], ["id"], ondelete=ondelete)
    op.execute("DROP TRIGGER batches_deleted ON batches")
    op.execute("DROP FUNCTION batchmill_delete_batch()")


def _forget() -> None:
    """Give each column the type that it has: its statistics go with that, and no row is written anew."""
    views = op.get_bind().execute(sa.text(VIEWS)).all()
    for name, _ in views:
        op.execute(f"DROP VIEW {name}")
    for table, columns in KEY_COLUMNS.items():
        changes = ", ".join(f"ALTER COLUMN {column} TYPE {TYPES.get(column, 'bigint')}" for column in columns)
        op.execute(f"ALTER TABLE {table} {changes}")
    for name, definition in views:
        op.get_bind().exec_driver_sql(f"CREATE VIEW {name} AS {definition}")


def _columns() -> Iterator[tuple[str, str]]:
    for table, columns in KEY_COLUMNS.items():
        yield from ((table, column) for column in columns)


def _on_postgresql() -> bool:
    return op.get_bind().dialect.name == "postgresql"
