"""The visitor of a page: the principal of their session, and the token that their actions must carry."""

import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData

from models.errors import Forbidden, Unauthorized
from producer.server.access import check_scope
from producer.server.context import Context
from producer.tenants.principal import OPERATOR, Principal, Scope

COOKIE = "batchmill_session"
CSRF_FIELD, CSRF_HEADER = "csrf_token", "x-csrf-token"
FOREIGN_FORM = "this form is of an earlier session or of another page; load the page again and repeat the action"


@dataclass(slots=True)
class Visitor:
    """Somebody who looks at a page.

    token: of the cookie
    is_signed_in: by a key; without keys everybody is the operator
    """

    principal: Principal
    token: str
    is_signed_in: bool = False
    is_new: bool = False  # the cookie has to be set
    is_secure: bool = False  # the page came over TLS
    cookies: dict[str, str] = field(default_factory=dict)

    @property
    def csrf_token(self) -> str:
        """What every action of this session carries; who can't read the cookie can't make it."""
        return hmac.new(self.token.encode(), b"csrf", hashlib.sha256).hexdigest()

    @property
    def may_submit(self) -> bool:
        """Whether actions on batches are offered."""
        return Scope.SUBMIT in self.principal.scopes

    @property
    def may_administrate(self) -> bool:
        """Whether actions on schedules and the operator's pages are offered."""
        return Scope.ADMIN in self.principal.scopes

    @property
    def is_operator(self) -> bool:
        """Whether all tenants are shown."""
        return self.principal.tenant is None

    def set_cookies(self, response: Response) -> None:
        """Set the cookie of a new session."""
        if self.is_new:
            response.set_cookie(COOKIE, self.token, httponly=True, samesite="strict", secure=self.is_secure, path="/")


async def find_visitor(request: Request, context: Context) -> Visitor:
    """Return who sends a request; raises Unauthorized, which a page answers with the form for signing in."""
    token = request.cookies.get(COOKIE)
    is_new = not token or len(token) > 200
    session_token = secrets.token_urlsafe(32) if is_new or token is None else token
    is_secure = request.url.scheme == "https"
    if await run_in_threadpool(context.authenticator.needs_key, context.database):
        raise Unauthorized("sign in with an API key")
    request.state.tenant = OPERATOR.tenant
    return Visitor(OPERATOR, session_token, is_new=is_new, is_secure=is_secure)


def _require(scope: Scope) -> Callable[[Visitor], Awaitable[Visitor]]:
    async def check(visitor: Annotated[Visitor, Depends(find_visitor)]) -> Visitor:
        check_scope(visitor.principal, scope)
        return visitor

    return check


PageReader = Annotated[Visitor, Depends(_require(Scope.READ))]
PageSubmitter = Annotated[Visitor, Depends(_require(Scope.SUBMIT))]
PageAdmin = Annotated[Visitor, Depends(_require(Scope.ADMIN))]


async def _read_form(request: Request, visitor: Annotated[Visitor, Depends(find_visitor)]) -> FormData:
    """Return the fields of an action's form; raises Forbidden without the token of this session."""
    form = await request.form()
    sent = form.get(CSRF_FIELD) or request.headers.get(CSRF_HEADER) or ""
    if not isinstance(sent, str) or not hmac.compare_digest(sent.encode(), visitor.csrf_token.encode()):
        raise Forbidden(FOREIGN_FORM)
    return form


# The form of a POST; a route that has it is safe from forged requests.
ActionForm = Annotated[FormData, Depends(_read_form)]
