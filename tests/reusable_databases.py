"""PostgreSQL databases with our tables that serve one test after another.

A database is more than 300 files, so emptying its tables costs a tenth of creating a new one. Tables and schemas that
a test added are dropped. A database in which a test changed anything else but rows is dropped itself.
"""

import secrets

import psycopg
from psycopg import Connection, sql
from sqlalchemy import MetaData

from tests.servers import PostgresDatabases

# DELETE leaves its rows on disk until a VACUUM, and queries read over them.
MAX_TABLE_BYTES = 2 << 20
LOCK_TIMEOUT_SECONDS = 2

FIRST_USER_OID = 16_384  # smaller numbers belong to the server's own objects

# Every change of a schema, a right or a setting writes rows of these catalogs, and `xmin` is a row's transaction.
CATALOGS = {
    "pg_class": f"oid >= {FIRST_USER_OID}",
    "pg_attribute": f"attrelid >= {FIRST_USER_OID}",
    "pg_type": f"oid >= {FIRST_USER_OID}",
    "pg_constraint": f"oid >= {FIRST_USER_OID}",
    "pg_proc": f"oid >= {FIRST_USER_OID}",
    "pg_trigger": f"oid >= {FIRST_USER_OID}",
    "pg_rewrite": f"oid >= {FIRST_USER_OID}",
    "pg_statistic": f"starelid >= {FIRST_USER_OID}",
    "pg_namespace": "nspname NOT LIKE 'pg%temp%'",
    "pg_default_acl": "true",
    "pg_extension": "true",
    "pg_db_role_setting": "setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())",
    "pg_database": "datname = current_database()",
    "alembic_version": "true",  # not a catalog, but the only table that isn't empty at first
}
SELECT_CATALOG_STATE = (
    " UNION ALL ".join(
        f"SELECT '{name}', count(*), sum(hashint8(xmin::text::bigint)) FROM {name} WHERE {condition}"
        for name, condition in CATALOGS.items()
    )
    + f" UNION ALL SELECT 'statistics', sum(relpages), sum(reltuples) FROM pg_class WHERE oid >= {FIRST_USER_OID}"
)

# Without our tables' names, only the rest is found: what a test created, or renamed.
SELECT_ADDITIONS = """
SELECT format('DROP TABLE IF EXISTS %%s CASCADE', oid::regclass) FROM pg_class
WHERE relkind IN ('r', 'p') AND oid >= %(first)s AND relname <> ALL(%(names)s)
UNION ALL
SELECT format('DROP SCHEMA IF EXISTS %%I CASCADE', nspname) FROM pg_namespace
WHERE oid >= %(first)s AND nspname NOT LIKE 'pg%%'
"""

SELECT_TABLE_BYTES = """
SELECT sum(pg_relation_size(oid)) FROM pg_class WHERE relkind IN ('r', 't') AND oid >= %s
"""
END_OTHER_SESSIONS = """
SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
RESTART_SEQUENCES = "SELECT setval(seqrelid::regclass, seqstart, false) FROM pg_sequence"


class ReusableDatabases:
    """Databases cloned from a template, which is migrated once."""

    def __init__(self, server: PostgresDatabases, template: str, tables: MetaData) -> None:
        self._server = server
        self._template = template
        self._names = ["alembic_version", *tables.tables]
        self._free: dict[str, object] = {}  # the state of the catalogs when the database was new, by its name
        self._delete_rows = [
            sql.SQL("DELETE FROM {}").format(sql.Identifier(table.name)) for table in reversed(tables.sorted_tables)
        ]

    def acquire(self) -> tuple[str, object]:
        """Return the name of a database with empty tables, and what `release` needs besides."""
        if self._free:
            return self._free.popitem()
        name = unique_database_name("batchmill_test")
        self._server.create_database(name, template=self._template)
        with self._connect(name) as connection:
            return name, self._catalog_state(connection)

    def release(self, name: str, new_state: object) -> None:
        """Empty the database's tables for the next test, or drop it if that isn't enough or isn't possible."""
        try:
            with self._connect(name) as connection:
                is_clean = self._empty(connection, new_state)
        except psycopg.Error:  # a test may have renamed a table, or dropped the database
            is_clean = False
        if is_clean:
            self._free[name] = new_state
        else:
            self._server.drop_database(name)

    def close(self) -> None:
        """Drop all databases."""
        while self._free:
            self._server.drop_database(self._free.popitem()[0])

    def _connect(self, name: str) -> Connection:
        url = self._server.url(name).replace("+psycopg", "")
        return psycopg.connect(url, autocommit=True, options=f"-c lock_timeout={LOCK_TIMEOUT_SECONDS}s")

    def _empty(self, connection: Connection, new_state: object) -> bool:
        connection.execute(END_OTHER_SESSIONS)
        if self._catalog_state(connection) != new_state:
            self._drop_additions(connection)
            if self._catalog_state(connection) != new_state:
                return False
        [table_bytes] = connection.execute(SELECT_TABLE_BYTES, [FIRST_USER_OID]).fetchone() or [0]
        if table_bytes > MAX_TABLE_BYTES:
            return False
        with connection.transaction():
            for statement in self._delete_rows:
                connection.execute(statement)
            connection.execute(RESTART_SEQUENCES)
        return True

    def _drop_additions(self, connection: Connection) -> None:
        additions = connection.execute(SELECT_ADDITIONS, {"first": FIRST_USER_OID, "names": self._names}).fetchall()
        for (statement,) in additions:
            connection.execute(statement)

    def _catalog_state(self, connection: Connection) -> object:
        return connection.execute(SELECT_CATALOG_STATE).fetchall()


def unique_database_name(prefix: str) -> str:
    """Return a name that no other run on the same server uses."""
    return f"{prefix}_{secrets.token_hex(6)}"
