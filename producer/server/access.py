"""The principal of a request, by its API key."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Annotated

from fastapi import BackgroundTasks, Depends, Request
from starlette.concurrency import run_in_threadpool

from models.db import Database
from models.errors import BatchmillError, Forbidden, Unauthorized
from producer.server.context import Context, ServerContext
from producer.tenants import keys
from producer.tenants.principal import Principal, Scope


async def authenticate(request: Request, context: Context, background: BackgroundTasks) -> Principal:
    """Return the principal of a request; raises Unauthorized."""
    headers = request.headers.getlist("authorization")
    authenticator = context.authenticator
    if (known := authenticator.recall(headers)) is not None:  # which takes no thread
        principal, is_use_unknown = known, False
    else:
        threaded = run_in_threadpool(authenticator.authenticate, context.database, headers)
        principal, is_use_unknown = await threaded
    request.state.tenant = principal.tenant
    if principal.key_id is not None:
        request.state.key_id = principal.key_id
        request.app.state.rate_limit.take(principal.key_id)
    if is_use_unknown and principal.key_id is not None:
        background.add_task(note_use, context.database, principal.key_id)  # after the response
    return principal


async def is_still_valid(request: Request, context: ServerContext) -> bool:
    """Whether the key of a request that is being answered is still valid; raises Unreachable."""
    headers = request.headers.getlist("authorization")
    try:
        await run_in_threadpool(context.authenticator.authenticate, context.database, headers)
    except Unauthorized:
        return False
    return True


def note_use(database: Database, key_id: str) -> None:
    """Note that a key was used; an error is ignored."""
    with suppress(BatchmillError):  # only `keys ls` shows it
        keys.touch_key(database, key_id)


def check_scope(principal: Principal, scope: Scope) -> None:
    """Raise Forbidden if the principal lacks the scope."""
    if scope not in principal.scopes:
        raise Forbidden(f"this key lacks the scope {scope}; use another, or make one: batchmill keys create")


def _require(scope: Scope) -> Callable[[Principal], Awaitable[Principal]]:
    async def check(principal: Annotated[Principal, Depends(authenticate)]) -> Principal:
        check_scope(principal, scope)
        return principal

    return check


Reader = Annotated[Principal, Depends(_require(Scope.READ))]
Submitter = Annotated[Principal, Depends(_require(Scope.SUBMIT))]
Admin = Annotated[Principal, Depends(_require(Scope.ADMIN))]
