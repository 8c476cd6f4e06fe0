"""Alembic's entry: runs the migrations over the connection that `models.schema.upgrade` hands in."""

from alembic import context

from models.tables.metadata import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    compare_type=True,
    render_as_batch=True,  # SQLite alters a table by rebuilding it
)
with context.begin_transaction():
    context.run_migrations()
