"""Rights: what the role that we connect as may do, asked of PostgreSQL; a refusal says which GRANT is missing.

Nothing goes by a driver's words, which a server may say in another language.
"""

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from models import schema
from models.db import Database
from models.driver_errors import code_of
from models.errors import BatchmillError, DatabaseRefused, RightMissing
from models.postgresql.grants import Place, Purpose, Rights, grant, quoted
from models.privacy import urls
from models.settings import Settings

NO_RIGHT, READ_ONLY = "42501", "25006"

QUOTE = '"{}"'
NAMED = 3  # rights in one sentence; of more only how many

ROLE = """
SELECT current_user AS role, current_database() AS database, current_schema() AS home,
       (SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.oid = to_regclass('batches')) AS schema,
       pg_is_in_recovery() AS is_standby, current_setting('default_transaction_read_only') = 'on' AS only_reads,
       has_database_privilege(current_database(), 'TEMPORARY') AS temporary,
       coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) AS creates
"""

# What is no table (a CTE, an alias) has no oid.
LACKING = """
SELECT w.name, w.wanted,
       (SELECT pg_get_userbyid(c.relowner) FROM pg_class c WHERE c.oid = to_regclass(w.name)) AS owner
FROM unnest(CAST(:names AS text[]), CAST(:wanted AS text[])) WITH ORDINALITY AS w(name, wanted, place)
WHERE CASE WHEN to_regclass(w.name) IS NULL THEN false
           WHEN w.wanted = 'OWNER' THEN NOT pg_has_role(
               (SELECT c.relowner FROM pg_class c WHERE c.oid = to_regclass(w.name)), 'USAGE')
           ELSE NOT has_table_privilege(to_regclass(w.name), w.wanted) END
ORDER BY w.place
"""

# The tables that a statement of ours names, and what it does to each.
VERBS = {
    "INSERT INTO": ("INSERT",), "COPY": ("INSERT",), "UPDATE": ("UPDATE", "SELECT"),
    "DELETE FROM": ("DELETE", "SELECT"),
    "FROM": ("SELECT",), "JOIN": ("SELECT",), "ALTER TABLE": ("OWNER",), "DROP TABLE": ("OWNER",),
    "TRUNCATE": ("OWNER",),
}  # fmt: skip
MENTION = re.compile(
    r'\b(INSERT INTO|COPY|UPDATE|DELETE FROM|FROM|JOIN|ALTER TABLE|DROP TABLE|TRUNCATE)\s+("(?:[^"]|"")+"|[a-z_]\w*)',
    re.IGNORECASE,
)
LOCKING = re.compile(r"\bFOR (NO KEY )?UPDATE\b")
CREATING = re.compile(r"\s*CREATE\s+(?!TEMP)", re.IGNORECASE)
CREATING_TEMPORARY = re.compile(r"\s*CREATE\s+TEMP", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Lack:
    """A right that a role has not; `kind` is TABLE, SCHEMA or DATABASE, and `owner` a table's."""

    right: str
    kind: str
    name: str
    owner: str | None = None

    def __str__(self) -> str:
        return f"{self.right} on {'' if self.kind == 'TABLE' else self.kind.lower() + ' '}{quoted(self.name)}"


@dataclass(frozen=True, slots=True)
class Role:
    """Who we are to the database, and what it lets us do at all."""

    name: str
    place: Place  # of our tables
    home: str | None  # the schema in which it makes tables of its own
    is_standby: bool
    only_reads: bool
    temporary: bool
    creates: bool

    @classmethod
    def of(cls, connection: Connection) -> "Role":
        """Ask the database."""
        row = connection.execute(text(ROLE)).one()
        place = Place(row.database, row.schema or row.home or "public")
        return cls(row.role, place, row.home, row.is_standby, row.only_reads, row.temporary, row.creates)


@dataclass(frozen=True, slots=True)
class Standing:
    """What a role lacks for each purpose; `begun` are those for which it was given a part of what they need."""

    role: Role
    missing: Mapping[Purpose, Sequence[Lack]]
    begun: frozenset[Purpose]


def lacks(connection: Connection, role: Role, purpose: Purpose) -> list[Lack]:
    """What the role has not of what the purpose needs."""
    found = [*_lacking(connection, _pairs(purpose.rights))]
    if purpose.needs_temporary and not role.temporary:
        found.append(Lack("TEMPORARY", "DATABASE", role.place.database))
    return found


def standing(database: Database) -> Standing | None:
    """What the role that we connect as may do; None on SQLite, which has no roles."""
    if database.engine.dialect.name != "postgresql":
        return None
    with database.read() as connection:
        role = Role.of(connection)
        missing = {purpose: lacks(connection, role, purpose) for purpose in Purpose}
    begun = set()
    for purpose in Purpose:
        own = [*_pairs(purpose.own)]
        lacking = {(lack.name, lack.right) for lack in missing[purpose]}.intersection(own)
        if 0 < len(lacking) < len(own):
            begun.add(purpose)
    return Standing(role, missing, frozenset(begun))


def opened(settings: Settings, purpose: Purpose) -> Database:
    """The database that the settings name, on one connection, whose role has all rights for this; see `require`."""
    database = schema.opened(settings, connections=1)
    try:
        require(database, purpose)
    except BaseException:
        database.close()
        raise
    return database


def require(database: Database, purpose: Purpose) -> None:
    """Raise RightMissing, naming the GRANTs, unless the role may do all of this; DatabaseRefused where nobody can."""
    engine = database.engine
    if engine.dialect.name != "postgresql":
        return
    with database.read() as connection:
        role = Role.of(connection)
        missing = lacks(connection, role, purpose)
    if role.is_standby or role.only_reads:
        raise DatabaseRefused(_only_reads(_called(engine), role))
    if missing:
        raise RightMissing(_sentence(_called(engine), role, missing, purpose))


def explained(engine: Engine, error: DatabaseRefused) -> BatchmillError:
    """The same refusal with what is missing and who can give it, where the database can be asked; else itself."""
    cause = error.__cause__
    if engine.dialect.name != "postgresql" or not isinstance(cause, DBAPIError) or isinstance(error, RightMissing):
        return error
    code = code_of(cause)
    if code not in (NO_RIGHT, READ_ONLY):
        return error
    try:
        with engine.connect() as connection:
            role = Role.of(connection)
            if code == READ_ONLY:
                return DatabaseRefused(_only_reads(_called(engine), role))
            missing = [*_of_statement(connection, role, cause.statement or "")]
    except (SQLAlchemyError, BatchmillError):
        return error
    return RightMissing(_sentence(_called(engine), role, missing)) if missing else error


def _of_statement(connection: Connection, role: Role, statement: str) -> Iterator[Lack]:
    """What the role lacks for this one statement."""
    if CREATING_TEMPORARY.match(statement):
        if not role.temporary:
            yield Lack("TEMPORARY", "DATABASE", role.place.database)
        return
    if CREATING.match(statement) and not role.creates and role.home is not None:
        yield Lack("CREATE", "SCHEMA", role.home)
        return
    yield from _lacking(connection, mentions(statement))


def named(missing: Sequence[Lack]) -> str:
    """The first of these rights, and how many more there are."""
    more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
    return ", ".join(map(str, missing[:NAMED])) + more


def command(purpose: Purpose, role: str) -> str:
    """The command that prints all GRANTs of a purpose."""
    return f"batchmill db grants --{purpose.value} {shlex.quote(role)}"


def mentions(statement: str) -> list[tuple[str, str]]:
    """The tables that a statement names, each with a right that it needs. Pure."""
    found: dict[tuple[str, str], None] = {}
    for verb, name in MENTION.findall(statement):
        rights = VERBS[verb.upper()]
        if rights == ("SELECT",) and LOCKING.search(statement):
            rights = ("SELECT", "UPDATE")
        if rights == ("INSERT",) and "DO UPDATE" in statement:
            rights = ("INSERT", "UPDATE", "SELECT")
        name = name[1:-1].replace('""', '"') if name.startswith('"') else name.lower()
        found |= dict.fromkeys((name, right) for right in rights)
    return [*found]


def _lacking(connection: Connection, pairs: Iterable[tuple[str, str]]) -> Iterator[Lack]:
    wanted = [*pairs]
    named = {
        "names": [QUOTE.format(name.replace('"', '""')) for name, _ in wanted],
        "wanted": [right for _, right in wanted],
    }
    for row in connection.execute(text(LACKING), named):
        yield Lack(row.wanted, "TABLE", row.name[1:-1].replace('""', '"'), row.owner)


def _pairs(rights: Rights) -> Iterator[tuple[str, str]]:
    return ((name, right) for name, needed in rights.items() for right in needed)


def _sentence(database: str, role: Role, missing: Sequence[Lack], purpose: Purpose | None = None) -> str:
    if missing[0].right == "OWNER":
        table, owner = quoted(missing[0].name), quoted(missing[0].owner or "")
        return (
            f"{database}: role {quoted(role.name)} is not the owner of table {table}, which is {owner}; do this as "
            f"{owner}, or give it: ALTER TABLE {table} OWNER TO {quoted(role.name)}"
        )
    gives = "; ".join(_grants(missing[:NAMED], role.name))
    purpose = purpose or _purpose_of(missing)
    every = "" if purpose is None else f"; all that is needed: {command(purpose, role.name)}"
    return f"{database}: role {quoted(role.name)} lacks {named(missing)}; its owner gives it with: {gives}{every}"


def _grants(missing: Sequence[Lack], role: str) -> Iterator[str]:
    rights: dict[tuple[str, str], list[str]] = {}
    for lack in missing:
        rights.setdefault((lack.kind, lack.name), []).append(lack.right)
    return (grant(", ".join(some), kind, name, role) for (kind, name), some in rights.items())


def _purpose_of(missing: Sequence[Lack]) -> Purpose | None:
    """The least purpose that all of this belongs to; None where it concerns a table of somebody's own."""
    for purpose in Purpose:
        rights = purpose.rights
        if all(
            lack.right in rights.get(lack.name, ()) or (lack.right == "TEMPORARY" and purpose.needs_temporary)
            for lack in missing
        ):
            return purpose
    return None


def _only_reads(database: str, role: Role) -> str:
    if role.is_standby:
        return f"{database} is a standby, which can only be read; name its primary server in BATCHMILL_DATABASE_URL"
    return (
        f"{database} lets role {quoted(role.name)} only read (default_transaction_read_only); to have it write: "
        f"ALTER ROLE {quoted(role.name)} SET default_transaction_read_only = off"
    )


def _called(engine: Engine) -> str:
    return f"the database at {urls.shown(engine.url.render_as_string(hide_password=False))}"
