"""Grants: the single list of PostgreSQL rights by role, used by commands, messages and tests.

Submitting includes reading. Working includes submitting, because workers ingest the sources of schedules. Only the
owner of the tables may alter them. Sequences need no grant because they belong to identity columns.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from sqlalchemy.dialects.postgresql.base import RESERVED_WORDS

from models.tables.metadata import METADATA

VERSION_TABLE = "alembic_version"
VIEWS = ("job_results", "job_attempts", "batch_status", "pipeline_backlog")

TablePrivileges = Mapping[str, tuple[str, ...]]  # by table

INSERT, UPDATE, DELETE, SELECT = "INSERT", "UPDATE", "DELETE", "SELECT"

SECRET_TABLES = {"api_keys", "sessions"}  # readers have no use for hashes of keys

READER_PRIVILEGES: TablePrivileges = dict.fromkeys(
    (*sorted(METADATA.tables.keys() - SECRET_TABLES), *VIEWS, VERSION_TABLE), (SELECT,)
)

SUBMITTER_PRIVILEGES: TablePrivileges = {
    "batches": (INSERT, UPDATE, DELETE),
    "batch_guards": (INSERT, UPDATE),
    "jobs": (INSERT, DELETE),
    "slices": (INSERT, UPDATE, DELETE),
    "results": (INSERT, DELETE),  # rejected and reused rows on submit; unanswered jobs on cancel
    "superseded_results": (INSERT, DELETE),
    "attempts": (INSERT, DELETE),
    "schedules": (INSERT, UPDATE, DELETE),
    "runs": (INSERT, UPDATE, DELETE),
    "events": (INSERT, UPDATE, DELETE),
    "api_keys": (SELECT, INSERT, UPDATE),
    "sessions": (SELECT, INSERT, DELETE),
    "files": (INSERT, UPDATE, DELETE),
    "servers": (INSERT, UPDATE, DELETE),
    "batch_events": (INSERT, UPDATE, DELETE),
}

WORKER_PRIVILEGES: TablePrivileges = {
    "workers": (INSERT, UPDATE, DELETE),
    "load_failures": (INSERT, UPDATE, DELETE),
    "maintenance_tasks": (INSERT, UPDATE),
    "token_budgets": (INSERT, UPDATE),
    "tenant_turns": (INSERT, UPDATE),
    "model_versions": (INSERT,),
    "usage": (INSERT, UPDATE),
    "activity": (INSERT, UPDATE, DELETE),
    "jobs": (UPDATE,),  # inputs that a guard redacted
}


class Purpose(Enum):
    """Purposes of a role; each includes the privileges of those before it."""

    READER = "reader"
    SUBMITTER = "submitter"
    WORKER = "worker"

    @property
    def own_privileges(self) -> TablePrivileges:
        """Privileges added to those of the previous purpose."""
        return {
            Purpose.READER: READER_PRIVILEGES,
            Purpose.SUBMITTER: SUBMITTER_PRIVILEGES,
            Purpose.WORKER: WORKER_PRIVILEGES,
        }[self]

    @property
    def privileges(self) -> TablePrivileges:
        """All privileges by table."""
        found: dict[str, tuple[str, ...]] = {}
        for purpose in Purpose:
            for table, rights in purpose.own_privileges.items():
                found[table] = (*found.get(table, ()), *rights)
            if purpose is self:
                break
        return found

    @property
    def needs_temporary_tables(self) -> bool:
        """Return whether the purpose creates temporary tables."""
        return self is not Purpose.READER


@dataclass(frozen=True, slots=True)
class SchemaLocation:
    """Database and schema that hold the tables."""

    database: str
    schema: str


def grant_statements(
    location: SchemaLocation, role: str, purpose: Purpose, *, create_tables: bool = False
) -> Iterator[str]:
    """Return the GRANTs for a role; `create_tables` adds the right to create tables beside ours."""
    to, schema = f"TO {quote_identifier(role)}", quote_identifier(location.schema)
    temporary = ", TEMPORARY" if purpose.needs_temporary_tables or create_tables else ""
    yield f"GRANT CONNECT{temporary} ON DATABASE {quote_identifier(location.database)} {to};"
    yield f"GRANT USAGE{', CREATE' if create_tables else ''} ON SCHEMA {schema} {to};"
    for rights, tables in _group_by_privileges(purpose.privileges):
        yield f"GRANT {rights} ON {', '.join(f'{schema}.{quote_identifier(table)}' for table in tables)} {to};"


def format_grant(privilege: str, kind: str, name: str, role: str) -> str:
    """Format one GRANT for a message; the keyword TABLE is optional and left out."""
    on = quote_identifier(name) if kind == "TABLE" else f"{kind} {quote_identifier(name)}"
    return f"GRANT {privilege} ON {on} TO {quote_identifier(role)}"


def quote_identifier(name: str) -> str:
    """Quote an identifier for PostgreSQL, only if it needs quotes."""
    plain = name.isascii() and name.isidentifier() and name == name.lower() and name not in RESERVED_WORDS
    return name if plain else '"' + name.replace('"', '""') + '"'


def _group_by_privileges(privileges: TablePrivileges) -> Iterable[tuple[str, list[str]]]:
    tables: dict[tuple[str, ...], list[str]] = {}
    for table, needed in privileges.items():
        tables.setdefault(needed, []).append(table)
    return [(", ".join(needed), names) for needed, names in tables.items()]
