"""The principal is on whose behalf a request is made: a tenant, and what its key may do."""

import re
from dataclasses import dataclass
from enum import StrEnum

from models.errors import UsageError

TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

DEFAULT_TENANT = "default"  # to whom everything belongs that no key was used for
ALL_TENANTS = "*"  # in place of a tenant's name, in a key of the operator's


class Scope(StrEnum):
    """What a key permits; none includes another."""

    READ = "read"  # look at batches, files, results and schedules
    SUBMIT = "submit"  # upload files, submit, cancel, retry and delete batches
    ADMIN = "admin"  # act on schedules; see workers and the state of the system


@dataclass(frozen=True, slots=True)
class Principal:
    """A tenant with the scopes of its key.

    tenant: None = all tenants
    key_id: the public part of the key; None = none was needed
    """

    tenant: str | None
    scopes: frozenset[Scope]
    key_id: str | None = None

    @property
    def home_tenant(self) -> str:
        """To whom that belongs which this principal creates."""
        return self.tenant or DEFAULT_TENANT

    def may_see(self, tenant: str) -> bool:
        """Whether something of a tenant exists for this principal."""
        return self.tenant is None or self.tenant == tenant


OPERATOR = Principal(None, frozenset(Scope))  # where no keys exist, and on the command line


def check_tenant(name: str) -> str:
    """Return a tenant's name; raises UsageError if it can't be one."""
    if TENANT.fullmatch(name):
        return name
    raise UsageError(
        f"{name[:80]!r} is no tenant's name; use 1 to 64 letters, digits, and - _ . after the first character",
        param="tenant",
    )
