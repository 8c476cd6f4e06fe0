"""Privileges of the connected role, queried from PostgreSQL to name the GRANTs behind a refusal.

The checks never parse the driver's message, because the server may translate it.
"""

import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from models.dialects.driver_errors import driver_error_code
from models.errors import BatchmillError, DatabaseRefused, InsufficientPrivilege
from models.postgresql.grants import Purpose, SchemaLocation, TablePrivileges, format_grant, quote_identifier
from models.privacy import urls

INSUFFICIENT_PRIVILEGE, READ_ONLY_TRANSACTION = "42501", "25006"

QUOTED_NAME = '"{}"'
MAX_NAMED_PRIVILEGES = 3  # rights named in a sentence; the rest are only counted

SELECT_ROLE = """
SELECT current_user AS role, current_database() AS database, current_schema() AS home,
       (SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.oid = to_regclass('batches')) AS schema,
       pg_is_in_recovery() AS is_standby, current_setting('default_transaction_read_only') = 'on' AS only_reads,
       has_database_privilege(current_database(), 'TEMPORARY') AS temporary,
       coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) AS creates
"""

# A name that is no table (a CTE, an alias) has no oid.
SELECT_MISSING_PRIVILEGES = """
SELECT w.name, w.wanted,
       (SELECT pg_get_userbyid(c.relowner) FROM pg_class c WHERE c.oid = to_regclass(w.name)) AS owner
FROM unnest(CAST(:names AS text[]), CAST(:wanted AS text[])) WITH ORDINALITY AS w(name, wanted, place)
WHERE CASE WHEN to_regclass(w.name) IS NULL THEN false
           WHEN w.wanted = 'OWNER' THEN NOT pg_has_role(
               (SELECT c.relowner FROM pg_class c WHERE c.oid = to_regclass(w.name)), 'USAGE')
           ELSE NOT has_table_privilege(to_regclass(w.name), w.wanted) END
ORDER BY w.place
"""

# Tables named by one of our statements, with the action on each.
PRIVILEGES_BY_VERB = {
    "INSERT INTO": ("INSERT",),
    "COPY": ("INSERT",),
    "UPDATE": ("UPDATE", "SELECT"),
    "DELETE FROM": ("DELETE", "SELECT"),
    "FROM": ("SELECT",),
    "JOIN": ("SELECT",),
    "ALTER TABLE": ("OWNER",),
    "DROP TABLE": ("OWNER",),
    "TRUNCATE": ("OWNER",),
}
TABLE_MENTION = re.compile(
    r'\b(INSERT INTO|COPY|UPDATE|DELETE FROM|FROM|JOIN|ALTER TABLE|DROP TABLE|TRUNCATE)\s+("(?:[^"]|"")+"|[a-z_]\w*)',
    re.IGNORECASE,
)
LOCKING_CLAUSE = re.compile(r"\bFOR (NO KEY )?UPDATE\b")
CREATE_STATEMENT = re.compile(r"\s*CREATE\s+(?!TEMP)", re.IGNORECASE)
CREATE_TEMPORARY_STATEMENT = re.compile(r"\s*CREATE\s+TEMP", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class MissingPrivilege:
    """A privilege that a role lacks; `kind` is TABLE, SCHEMA or DATABASE, `owner` is the table's."""

    privilege: str
    kind: str
    name: str
    owner: str | None = None

    def __str__(self) -> str:
        return (
            f"{self.privilege} on "
            f"{'' if self.kind == 'TABLE' else self.kind.lower() + ' '}{quote_identifier(self.name)}"
        )


@dataclass(frozen=True, slots=True)
class Role:
    """The connected role and its basic rights on the database."""

    name: str
    location: SchemaLocation  # of our tables
    default_schema: str | None  # schema in which the role creates tables
    is_standby: bool
    is_read_only: bool
    can_create_temporary_tables: bool
    can_create_tables: bool

    @classmethod
    def fetch(cls, connection: Connection) -> "Role":
        """Query the connected role from the database."""
        row = connection.execute(text(SELECT_ROLE)).one()
        place = SchemaLocation(row.database, row.schema or row.home or "public")
        return cls(row.role, place, row.home, row.is_standby, row.only_reads, row.temporary, row.creates)


def missing_privileges(connection: Connection, role: Role, purpose: Purpose) -> list[MissingPrivilege]:
    """List the privileges of the purpose that the role lacks."""
    found = [*_select_missing(connection, table_privilege_pairs(purpose.privileges))]
    if purpose.needs_temporary_tables and not role.can_create_temporary_tables:
        found.append(MissingPrivilege("TEMPORARY", "DATABASE", role.location.database))
    return found


def explain_refusal(engine: Engine, error: DatabaseRefused) -> BatchmillError:
    """Return the error with the missing GRANT and its grantor added; unchanged if the database can't be queried."""
    cause = error.__cause__
    if (
        engine.dialect.name != "postgresql"
        or not isinstance(cause, DBAPIError)
        or isinstance(error, InsufficientPrivilege)
    ):
        return error
    code = driver_error_code(cause)
    if code not in (INSUFFICIENT_PRIVILEGE, READ_ONLY_TRANSACTION):
        return error
    try:
        with engine.connect() as connection:
            role = Role.fetch(connection)
            if code == READ_ONLY_TRANSACTION:
                return DatabaseRefused(read_only_message(describe_database(engine), role))
            missing = [*_missing_for_statement(connection, role, cause.statement or "")]
    except (SQLAlchemyError, BatchmillError):
        return error
    return InsufficientPrivilege(missing_message(describe_database(engine), role, missing)) if missing else error


def _missing_for_statement(connection: Connection, role: Role, statement: str) -> Iterator[MissingPrivilege]:
    """Yield the privileges that the role lacks for one statement."""
    if CREATE_TEMPORARY_STATEMENT.match(statement):
        if not role.can_create_temporary_tables:
            yield MissingPrivilege("TEMPORARY", "DATABASE", role.location.database)
        return
    if CREATE_STATEMENT.match(statement) and not role.can_create_tables and role.default_schema is not None:
        yield MissingPrivilege("CREATE", "SCHEMA", role.default_schema)
        return
    yield from _select_missing(connection, required_privileges(statement))


def format_missing(missing: Sequence[MissingPrivilege]) -> str:
    """Format the first missing privileges and the number of the others."""
    more = f" and {len(missing) - MAX_NAMED_PRIVILEGES} more" if len(missing) > MAX_NAMED_PRIVILEGES else ""
    return ", ".join(map(str, missing[:MAX_NAMED_PRIVILEGES])) + more


def grants_command(purpose: Purpose, role: str) -> str:
    """Return the command that prints all GRANTs of a purpose."""
    return f"batchmill db grants --{purpose.value} {shlex.quote(role)}"


def required_privileges(statement: str) -> list[tuple[str, str]]:
    """List the tables that a statement names, each with a privilege that it needs. Pure."""
    found: dict[tuple[str, str], None] = {}
    for verb, name in TABLE_MENTION.findall(statement):
        rights = PRIVILEGES_BY_VERB[verb.upper()]
        if rights == ("SELECT",) and LOCKING_CLAUSE.search(statement):
            rights = ("SELECT", "UPDATE")
        if rights == ("INSERT",) and "DO UPDATE" in statement:
            rights = ("INSERT", "UPDATE", "SELECT")
        name = name[1:-1].replace('""', '"') if name.startswith('"') else name.lower()
        found |= dict.fromkeys((name, right) for right in rights)
    return [*found]


def _select_missing(connection: Connection, pairs: Iterable[tuple[str, str]]) -> Iterator[MissingPrivilege]:
    wanted = [*pairs]
    named = {
        "names": [QUOTED_NAME.format(name.replace('"', '""')) for name, _ in wanted],
        "wanted": [right for _, right in wanted],
    }
    for row in connection.execute(text(SELECT_MISSING_PRIVILEGES), named):
        yield MissingPrivilege(row.wanted, "TABLE", row.name[1:-1].replace('""', '"'), row.owner)


def table_privilege_pairs(privileges: TablePrivileges) -> Iterator[tuple[str, str]]:
    return ((name, right) for name, needed in privileges.items() for right in needed)


def missing_message(
    database: str, role: Role, missing: Sequence[MissingPrivilege], purpose: Purpose | None = None
) -> str:
    if missing[0].privilege == "OWNER":
        table, owner = quote_identifier(missing[0].name), quote_identifier(missing[0].owner or "")
        return (
            f"{database}: role {quote_identifier(role.name)} is not the owner of table {table}, "
            f"which is {owner}; do this as "
            f"{owner}, or give it: ALTER TABLE {table} OWNER TO {quote_identifier(role.name)}"
        )
    gives = "; ".join(_format_grants(missing[:MAX_NAMED_PRIVILEGES], role.name))
    purpose = purpose or _purpose_for(missing)
    every = "" if purpose is None else f"; all that is needed: {grants_command(purpose, role.name)}"
    return (
        f"{database}: role {quote_identifier(role.name)} lacks {format_missing(missing)}; its "
        f"owner gives it with: {gives}{every}"
    )


def _format_grants(missing: Sequence[MissingPrivilege], role: str) -> Iterator[str]:
    rights: dict[tuple[str, str], list[str]] = {}
    for lack in missing:
        rights.setdefault((lack.kind, lack.name), []).append(lack.privilege)
    return (format_grant(", ".join(some), kind, name, role) for (kind, name), some in rights.items())


def _purpose_for(missing: Sequence[MissingPrivilege]) -> Purpose | None:
    """Return the smallest purpose that includes all of these; None if another owner's table is involved."""
    for purpose in Purpose:
        rights = purpose.privileges
        if all(
            lack.privilege in rights.get(lack.name, ())
            or (lack.privilege == "TEMPORARY" and purpose.needs_temporary_tables)
            for lack in missing
        ):
            return purpose
    return None


def read_only_message(database: str, role: Role) -> str:
    if role.is_standby:
        return f"{database} is a standby, which can only be read; name its primary server in BATCHMILL_DATABASE_URL"
    return (
        f"{database} lets role {quote_identifier(role.name)} only read "
        "(default_transaction_read_only); to have it write: "
        f"ALTER ROLE {quote_identifier(role.name)} SET default_transaction_read_only = off"
    )


def describe_database(engine: Engine) -> str:
    return f"the database at {urls.redact_url(engine.url.render_as_string(hide_password=False))}"
