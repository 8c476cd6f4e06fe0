"""`batchmill db`: the database's tables."""

import click

from models import schema, terminal, urls
from models.settings import Settings
from producer.cli import context


@click.group(short_help="Look after the database's tables.")
def db() -> None:
    """Look after the database's tables."""


@db.command(short_help="Bring the tables to this Batchmill's version.")
@context.json_option
def upgrade(as_json: bool) -> None:
    """Make the tables, or bring them to this Batchmill's version; harmless when they are."""
    settings = Settings.load()
    schema.upgrade(settings.database)
    with context.opened(settings) as database:
        version = schema.version(database)
    if as_json:
        terminal.echo_json({"object": "schema", "version": version})
    else:
        terminal.notice(f"the tables at {urls.shown(settings.database)} are of version {version}")
