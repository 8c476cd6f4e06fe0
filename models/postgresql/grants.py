"""Grants: which rights on PostgreSQL each kind of role needs, in one place; commands, messages and tests go by it.

Whoever submits also reads, and whoever works also submits, since workers take in the sources of schedules. Nobody but
the owner of the tables may change what they look like. Sequences need no grant: they belong to identity columns.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from sqlalchemy.dialects.postgresql.base import RESERVED_WORDS

from models.schedule_tables import ALL

VERSION = "alembic_version"
VIEWS = ("job_results", "job_attempts")

Rights = Mapping[str, tuple[str, ...]]  # by table

ADD, CHANGE, DROP, LOOK = "INSERT", "UPDATE", "DELETE", "SELECT"

READING: Rights = dict.fromkeys((*sorted(ALL.tables), *VIEWS, VERSION), (LOOK,))

SUBMITTING: Rights = {
    "batches": (ADD, CHANGE, DROP),
    "jobs": (ADD, DROP),
    "slices": (ADD, CHANGE, DROP),
    "results": (ADD, DROP),  # of rows that can't be jobs, of what is reused, and of what a cancel leaves open
    "past_results": (ADD, DROP),
    "attempts": (ADD, DROP),
    "schedules": (ADD, CHANGE, DROP),
    "runs": (ADD, CHANGE, DROP),
    "events": (ADD, CHANGE, DROP),
}

WORKING: Rights = {
    "workers": (ADD, CHANGE, DROP),
    "load_failures": (ADD, CHANGE, DROP),
    "duties": (ADD, CHANGE),
    "budgets": (ADD, CHANGE),
    "model_versions": (ADD,),
}


class Purpose(Enum):
    """What a role is for; each may do all that those before it may."""

    READING = "reader"
    SUBMITTING = "submitter"
    WORKING = "worker"

    @property
    def own(self) -> Rights:
        """What it has beyond the purpose before it."""
        return {Purpose.READING: READING, Purpose.SUBMITTING: SUBMITTING, Purpose.WORKING: WORKING}[self]

    @property
    def rights(self) -> Rights:
        """All that it has, by table."""
        found: dict[str, tuple[str, ...]] = {}
        for purpose in Purpose:
            for table, rights in purpose.own.items():
                found[table] = (*found.get(table, ()), *rights)
            if purpose is self:
                break
        return found

    @property
    def needs_temporary(self) -> bool:
        """Whether it makes temporary tables."""
        return self is not Purpose.READING


@dataclass(frozen=True, slots=True)
class Place:
    """Where the tables are."""

    database: str
    schema: str


def statements(place: Place, role: str, purpose: Purpose, *, own_tables: bool = False) -> Iterator[str]:
    """The GRANTs for a role; with `own_tables` it may also make tables of its own beside ours."""
    to, schema = f"TO {quoted(role)}", quoted(place.schema)
    temporary = ", TEMPORARY" if purpose.needs_temporary or own_tables else ""
    yield f"GRANT CONNECT{temporary} ON DATABASE {quoted(place.database)} {to};"
    yield f"GRANT USAGE{', CREATE' if own_tables else ''} ON SCHEMA {schema} {to};"
    for rights, tables in _together(purpose.rights):
        yield f"GRANT {rights} ON {', '.join(f'{schema}.{quoted(table)}' for table in tables)} {to};"


def grant(right: str, kind: str, name: str, role: str) -> str:
    """One GRANT, as it stands in a message; a table's goes without saying that it is one."""
    on = quoted(name) if kind == "TABLE" else f"{kind} {quoted(name)}"
    return f"GRANT {right} ON {on} TO {quoted(role)}"


def quoted(name: str) -> str:
    """A name as PostgreSQL takes it, in quotes only where it needs them."""
    plain = name.isascii() and name.isidentifier() and name == name.lower() and name not in RESERVED_WORDS
    return name if plain else '"' + name.replace('"', '""') + '"'


def _together(rights: Rights) -> Iterable[tuple[str, list[str]]]:
    tables: dict[tuple[str, ...], list[str]] = {}
    for table, needed in rights.items():
        tables.setdefault(needed, []).append(table)
    return [(", ".join(needed), names) for needed, names in tables.items()]
