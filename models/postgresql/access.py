"""Privilege checks run before a command or a worker starts its work."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from models import schema
from models.db import Database
from models.errors import DatabaseRefused, InsufficientPrivilege
from models.postgresql.grants import Purpose
from models.postgresql.privileges import (
    MissingPrivilege,
    Role,
    describe_database,
    missing_message,
    missing_privileges,
    read_only_message,
    table_privilege_pairs,
)
from models.settings import Settings


@dataclass(frozen=True, slots=True)
class RolePrivileges:
    """Missing privileges by purpose; `partially_granted` holds the purposes that have some of theirs."""

    role: Role
    missing: Mapping[Purpose, Sequence[MissingPrivilege]]
    partially_granted: frozenset[Purpose]


def role_privileges(database: Database) -> RolePrivileges | None:
    """Check the connected role's privileges for every purpose; None on SQLite, which has no roles."""
    if database.engine.dialect.name != "postgresql":
        return None
    with database.read() as connection:
        role = Role.fetch(connection)
        missing = {purpose: missing_privileges(connection, role, purpose) for purpose in Purpose}
    begun = set()
    for purpose in Purpose:
        own = [*table_privilege_pairs(purpose.own_privileges)]
        lacking = {(lack.name, lack.privilege) for lack in missing[purpose]}.intersection(own)
        if 0 < len(lacking) < len(own):
            begun.add(purpose)
    return RolePrivileges(role, missing, frozenset(begun))


def open_with_privileges(settings: Settings, purpose: Purpose) -> Database:
    """Open the settings' database on one connection, and check that its role has all rights for this purpose.

    Raises what `require_privileges` raises.
    """
    database = schema.open_database(settings, max_connections=1)
    try:
        require_privileges(database, purpose)
    except BaseException:
        database.close()
        raise
    return database


def require_privileges(database: Database, purpose: Purpose) -> None:
    """Check that the connected role has every privilege of the purpose.

    Raises InsufficientPrivilege, which names the missing GRANTs, or DatabaseRefused if no role could have them.
    """
    engine = database.engine
    if engine.dialect.name != "postgresql":
        return
    with database.read() as connection:
        role = Role.fetch(connection)
        missing = missing_privileges(connection, role, purpose)
    if role.is_standby or role.is_read_only:
        raise DatabaseRefused(read_only_message(describe_database(engine), role))
    if missing:
        raise InsufficientPrivilege(missing_message(describe_database(engine), role, missing, purpose))
