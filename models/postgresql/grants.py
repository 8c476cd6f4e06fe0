"""Grants: which rights on PostgreSQL each kind of role needs, in one place; commands, messages and tests go by it.

Whoever submits also reads, and whoever works also submits, since workers take in the sources of schedules. Nobody but
the owner of the tables may change what they look like. Sequences need no grant: they belong to identity columns.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from sqlalchemy.dialects.postgresql.base import RESERVED_WORDS

from models.schedule_tables import METADATA

VERSION_TABLE = "alembic_version"
VIEWS = ("job_results", "job_attempts")

TablePrivileges = Mapping[str, tuple[str, ...]]  # by table

INSERT, UPDATE, DELETE, SELECT = "INSERT", "UPDATE", "DELETE", "SELECT"

READER_PRIVILEGES: TablePrivileges = dict.fromkeys((*sorted(METADATA.tables), *VIEWS, VERSION_TABLE), (SELECT,))

SUBMITTER_PRIVILEGES: TablePrivileges = {
    "batches": (INSERT, UPDATE, DELETE),
    "jobs": (INSERT, DELETE),
    "slices": (INSERT, UPDATE, DELETE),
    "results": (INSERT, DELETE),  # of rows that can't be jobs, of what is reused, and of what a cancel leaves open
    "past_results": (INSERT, DELETE),
    "attempts": (INSERT, DELETE),
    "schedules": (INSERT, UPDATE, DELETE),
    "runs": (INSERT, UPDATE, DELETE),
    "events": (INSERT, UPDATE, DELETE),
}

WORKER_PRIVILEGES: TablePrivileges = {
    "workers": (INSERT, UPDATE, DELETE),
    "load_failures": (INSERT, UPDATE, DELETE),
    "duties": (INSERT, UPDATE),
    "budgets": (INSERT, UPDATE),
    "model_versions": (INSERT,),
}


class Purpose(Enum):
    """What a role is for; each may do all that those before it may."""

    READER = "reader"
    SUBMITTER = "submitter"
    WORKER = "worker"

    @property
    def own_privileges(self) -> TablePrivileges:
        """What it has beyond the purpose before it."""
        return {
            Purpose.READER: READER_PRIVILEGES,
            Purpose.SUBMITTER: SUBMITTER_PRIVILEGES,
            Purpose.WORKER: WORKER_PRIVILEGES,
        }[self]

    @property
    def privileges(self) -> TablePrivileges:
        """All that it has, by table."""
        found: dict[str, tuple[str, ...]] = {}
        for purpose in Purpose:
            for table, rights in purpose.own_privileges.items():
                found[table] = (*found.get(table, ()), *rights)
            if purpose is self:
                break
        return found

    @property
    def needs_temporary_tables(self) -> bool:
        """Whether it makes temporary tables."""
        return self is not Purpose.READER


@dataclass(frozen=True, slots=True)
class SchemaLocation:
    """Where the tables are."""

    database: str
    schema: str


def grant_statements(
    location: SchemaLocation, role: str, purpose: Purpose, *, own_tables: bool = False
) -> Iterator[str]:
    """The GRANTs for a role; with `own_tables` it may also make tables of its own beside ours."""
    to, schema = f"TO {quote_identifier(role)}", quote_identifier(location.schema)
    temporary = ", TEMPORARY" if purpose.needs_temporary_tables or own_tables else ""
    yield f"GRANT CONNECT{temporary} ON DATABASE {quote_identifier(location.database)} {to};"
    yield f"GRANT USAGE{', CREATE' if own_tables else ''} ON SCHEMA {schema} {to};"
    for rights, tables in _group_by_privileges(purpose.privileges):
        yield f"GRANT {rights} ON {', '.join(f'{schema}.{quote_identifier(table)}' for table in tables)} {to};"


def format_grant(privilege: str, kind: str, name: str, role: str) -> str:
    """One GRANT, as it stands in a message; a table's goes without saying that it is one."""
    on = quote_identifier(name) if kind == "TABLE" else f"{kind} {quote_identifier(name)}"
    return f"GRANT {privilege} ON {on} TO {quote_identifier(role)}"


def quote_identifier(name: str) -> str:
    """A name as PostgreSQL takes it, in quotes only where it needs them."""
    plain = name.isascii() and name.isidentifier() and name == name.lower() and name not in RESERVED_WORDS
    return name if plain else '"' + name.replace('"', '""') + '"'


def _group_by_privileges(privileges: TablePrivileges) -> Iterable[tuple[str, list[str]]]:
    tables: dict[tuple[str, ...], list[str]] = {}
    for table, needed in privileges.items():
        tables.setdefault(needed, []).append(table)
    return [(", ".join(needed), names) for needed, names in tables.items()]
