"""`batchmill db` upgrades the database's tables, and prints the GRANTs for its roles."""

from collections.abc import Iterator, Mapping, Sequence

import click

from models import schema
from models.db import Database
from models.errors import UsageError
from models.postgresql.grants import Purpose, SchemaLocation, grant_statements
from models.postgresql.privileges import Role
from models.postgresql.session import MAX_NAME_BYTES
from models.privacy import terminal, urls
from models.settings import Settings
from producer.cli import common


@click.group(short_help="Manage the database's tables.")
def db() -> None:
    """Manage the database's tables."""


@db.command(short_help="Bring the tables to this Batchmill's version.")
@common.json_option
def upgrade(as_json: bool) -> None:
    """Create the tables, or bring them to this Batchmill's version; harmless when they are up to date."""
    settings = Settings.load()
    previous = schema.upgrade(settings.resolved_database_url)
    if as_json:
        is_changed = previous != schema.HEAD
        terminal.echo_json(
            {"object": "schema", "version": schema.HEAD, "previous_version": previous, "changed": is_changed}
        )
    else:
        terminal.print_notice(_describe_upgrade(urls.redact_url(settings.resolved_database_url), previous))


def _describe_upgrade(url: str, previous: str | None) -> str:
    if previous is None:
        return f"the tables at {url} were created in version {schema.HEAD}"
    if previous == schema.HEAD:
        return f"the tables at {url} had version {schema.HEAD} already; nothing was changed"
    return f"the tables at {url} were upgraded from version {previous} to {schema.HEAD}"


@db.command(short_help="Print the GRANTs that PostgreSQL's roles need.")
@click.option("--worker", "workers", multiple=True, metavar="ROLE", help="Runs workers, maintenance and schedules.")
@click.option("--submitter", "submitters", multiple=True, metavar="ROLE", help="Submits, cancels, retries, deletes.")
@click.option("--reader", "readers", multiple=True, metavar="ROLE", help="Reads batches, results and schedules.")
@click.option(
    "--create-tables",
    is_flag=True,
    help="Roles may also create tables: for results --to-sql, and for a schedule's into.",
)
@common.json_option
def grants(
    workers: Sequence[str], submitters: Sequence[str], readers: Sequence[str], create_tables: bool, as_json: bool
) -> None:
    """Print the statements that the owner of the tables runs, so that each ROLE can do its work and nothing else.

    The command changes nothing. To apply them: batchmill db grants --worker mill_worker | psql …
    """
    roles = {Purpose.WORKER: workers, Purpose.SUBMITTER: submitters, Purpose.READER: readers}
    _check_roles(roles)
    with common.open_database(Settings.load()) as database:
        location = _schema_location(database)
    statements = [*_grant_statements(location, roles, create_tables=create_tables)]
    if as_json:
        terminal.echo_json({"object": "grants", "statements": statements})
    else:
        click.echo("\n".join(statements))


def _check_roles(roles: Mapping[Purpose, Sequence[str]]) -> None:
    if not any(roles.values()):
        raise UsageError("name a role: --worker, --submitter or --reader")
    for name in (name for names in roles.values() for name in names):
        if not name or name.lower() == "public" or len(name.encode()) > MAX_NAME_BYTES or "\0" in name:
            raise UsageError(f"{name[:80]!r} is no role's name; take one that CREATE ROLE has made")


def _schema_location(database: Database) -> SchemaLocation:
    if database.engine.dialect.name != "postgresql":
        raise UsageError("SQLite has no roles; the permissions of its file decide who may use the database")
    with database.read() as connection:
        return Role.fetch(connection).location


def _grant_statements(
    location: SchemaLocation, roles: Mapping[Purpose, Sequence[str]], *, create_tables: bool
) -> Iterator[str]:
    for purpose, names in roles.items():
        for name in names:
            yield from grant_statements(location, name, purpose, create_tables=create_tables)
