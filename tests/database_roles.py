"""PostgreSQL roles for a test's database, with the grants that `batchmill db grants` prints."""

import contextlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

from models.postgresql.grants import Purpose, SchemaLocation, grant_statements


@dataclass(frozen=True)
class DatabaseRoles:
    """Names of the roles on one database, whose owner is in `owner_url`."""

    owner_url: str
    names: dict[Purpose, str]

    def url_for(self, purpose: Purpose) -> str:
        """Return the database's URL for the role of this purpose."""
        return self.url_for_role(self.names[purpose])

    def url_for_role(self, role: str) -> str:
        """Return the database's URL for a role."""
        return make_url(self.owner_url).set(username=role).render_as_string(hide_password=False)

    def execute(self, *commands: str) -> None:
        """Execute commands as the owner."""
        execute(self.owner_url, *commands)

    def grant(self, purpose: Purpose, *, create_tables: bool = False) -> None:
        """Grant a role its privileges."""
        place = SchemaLocation(str(make_url(self.owner_url).database), "public")
        self.execute(*grant_statements(place, self.names[purpose], purpose, create_tables=create_tables))


def execute(url: str, *commands: str) -> None:
    """Execute commands, each in a separate transaction."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        for command in commands:
            connection.execute(command)


@contextmanager
def temporary_roles(owner_url: str) -> Iterator[DatabaseRoles]:
    """Yield a role for each purpose, without rights; afterwards the roles and their objects are dropped."""
    mark = secrets.token_hex(4)
    names = {purpose: f"batchmill_{purpose.value}_{mark}" for purpose in Purpose}
    try:
        execute(owner_url, *(f"CREATE ROLE {name} LOGIN" for name in names.values()))
    except psycopg.errors.InsufficientPrivilege:
        pytest.skip("the server that was given lets us make no roles")
    try:
        yield DatabaseRoles(owner_url, names)
    finally:
        with psycopg.connect(owner_url.replace("+psycopg", ""), autocommit=True) as connection:
            for name in map(sql.Identifier, names.values()):
                connection.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(name))
                with contextlib.suppress(psycopg.errors.DependentObjectsStillExist):
                    connection.execute(sql.SQL("DROP ROLE {}").format(name))
