"""The visitor of a page: the principal of their session, and the token that their actions must carry."""

import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import BackgroundTasks, Depends, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData

from models.errors import Unauthorized
from producer.server.access import check_scope, note_use
from producer.server.context import Context, ServerContext
from producer.server.pages.access import forgery, messages
from producer.server.pages.access.cookies import Cookies
from producer.server.pages.access.forgery import CSRF_FIELD
from producer.server.pages.access.messages import FlashMessage
from producer.server.pages.access.rights import Rights
from producer.tenants.authentication import Authenticator
from producer.tenants.principal import OPERATOR, Principal, Scope
from producer.tenants.sessions import MAX_TOKEN_CHARACTERS, TOKEN_BYTES

MAX_FIELDS = 500  # of the form of an action
SIGN_IN = "sign in with an API key to see this"
NOBODY = Principal("", frozenset())  # who has not signed in; no tenant has an empty name


class CookieWithheld(Unauthorized):
    """A link on another site led here, so the browser may have a cookie and has not sent it."""

    code = "cookie_withheld"


@dataclass(slots=True)
class Visitor(Rights):
    """Somebody who looks at a page.

    token: of the session's cookie, or of the one for forms without a session
    is_signed_in: by a key; without keys everybody is the operator
    is_new: whether the cookie for forms has to be set
    """

    principal: Principal
    token: str
    cookies: Cookies
    is_signed_in: bool = False
    is_new: bool = False
    message: FlashMessage | None = None  # of the action before this page

    @property
    def csrf_secret(self) -> bytes:
        """What the tokens of this session's actions are made of; who can't read the cookie can't make them."""
        return hmac.new(self.token.encode(), b"csrf", hashlib.sha256).digest()

    @property
    def csrf_token(self) -> str:
        """A token that an action of this session carries; each page has another one."""
        return forgery.make_token(self.csrf_secret)

    def set_cookies(self, response: Response) -> None:
        """Set the cookie for forms; that of the session is set by signing in alone."""
        if self.is_new:
            self.cookies.set(response, self.cookies.form, self.token)

    def leave_message(self, response: Response, message: FlashMessage) -> None:
        """Let the next page show a message."""
        self.cookies.set(response, self.cookies.message, messages.pack(message, self.token))

    def take_message(self, response: Response) -> None:
        """Note that this page shows the message."""
        if self.message is not None:
            self.cookies.delete(response, self.cookies.message)


def visitor_with(request: Request, principal: Principal, *, is_signed_in: bool = False) -> Visitor:
    """Return the visitor of a request whose principal is known; without a session they get a cookie for forms.

    Raises CookieWithheld if a new cookie could replace one that the browser has.
    """
    cookies = Cookies.of(request)
    token = request.cookies.get(cookies.session if is_signed_in else cookies.form)
    is_new = not token or len(token) > MAX_TOKEN_CHARACTERS
    if is_new and is_link_of_other_site(request):
        raise CookieWithheld(SIGN_IN)
    known_token = secrets.token_urlsafe(TOKEN_BYTES) if is_new or token is None else token
    packed = request.cookies.get(cookies.message)
    message = messages.unpack(packed, known_token) if packed else None
    visitor = Visitor(principal, known_token, cookies, is_signed_in, is_new, message)
    request.state.visitor = visitor  # a page of an error has their menu
    return visitor


def is_link_of_other_site(request: Request) -> bool:
    """Whether a browser says that it follows a link on another site; it sends no cookies then."""
    return request.headers.get("sec-fetch-site") == "cross-site" and request.method in ("GET", "HEAD")


def may_be_link_of_other_site(request: Request) -> bool:
    """Whether a browser may follow such a link: to plain HTTP on another machine it does not say so."""
    headers = request.headers
    if "sec-fetch-site" in headers or "hx-request" in headers or "text/html" not in headers.get("accept", ""):
        return is_link_of_other_site(request)
    return request.method in ("GET", "HEAD") and not forgery.is_from_page_of_ours(request)


async def find_visitor(request: Request, context: Context, background: BackgroundTasks) -> Visitor:
    """Return who sends a request; raises Unauthorized, which a page answers with the form for signing in."""
    if not await needs_session(context):
        principal, is_signed_in = OPERATOR, False
    else:
        principal, is_signed_in = await _verify_session(request, context, background), True
    request.state.tenant = principal.tenant
    if principal.key_id is not None:
        request.state.key_id = principal.key_id
        request.app.state.rate_limit.take(principal.key_id)
    return visitor_with(request, principal, is_signed_in=is_signed_in)


def recall_visitor(request: Request) -> Visitor | None:
    """Return who sends a request that failed, if that is known without the database.

    They get no cookie, because their request may be one of another site.
    """
    known: Visitor | None = getattr(request.state, "visitor", None)
    authenticator: Authenticator = request.app.state.context.authenticator
    if known is not None:
        return replace(known, is_new=False)
    try:
        if authenticator.recall_needs_key() is False:
            return replace(visitor_with(request, OPERATOR), is_new=False)
        principal = authenticator.recall_session(session_token(request))
        return visitor_with(request, principal, is_signed_in=True) if principal else None
    except Unauthorized:
        return None


async def needs_session(context: ServerContext) -> bool:
    """Whether there are keys, so that pages need a session."""
    if (known := context.authenticator.recall_needs_key()) is not None:  # which takes no thread
        return known
    return await run_in_threadpool(context.authenticator.needs_key, context.database)


async def is_session_valid(request: Request, context: ServerContext) -> bool:
    """Whether the session of a request that is being answered is still valid; raises Unreachable.

    A response that goes on for long asks again now and then.
    """
    if not await needs_session(context):
        return True
    try:
        await run_in_threadpool(context.authenticator.authenticate_session, context.database, session_token(request))
    except Unauthorized:
        return False
    return True


def session_token(request: Request) -> str:
    """Return the token of the session's cookie; raises Unauthorized if there is none."""
    token = request.cookies.get(Cookies.of(request).session)
    if not token or len(token) > MAX_TOKEN_CHARACTERS:
        raise CookieWithheld(SIGN_IN) if may_be_link_of_other_site(request) else Unauthorized(SIGN_IN)
    return token


async def _verify_session(request: Request, context: ServerContext, background: BackgroundTasks) -> Principal:
    token = session_token(request)
    if (known := context.authenticator.recall_session(token)) is not None:
        return known
    threaded = run_in_threadpool(context.authenticator.authenticate_session, context.database, token)
    principal, is_use_unknown = await threaded
    if is_use_unknown and principal.key_id is not None:
        background.add_task(note_use, context.database, principal.key_id)  # after the response
    return principal


def _require(scope: Scope) -> Callable[[Visitor], Awaitable[Visitor]]:
    async def check(visitor: Annotated[Visitor, Depends(find_visitor)]) -> Visitor:
        check_scope(visitor.principal, scope)
        return visitor

    return check


PageReader = Annotated[Visitor, Depends(_require(Scope.READ))]
PageSubmitter = Annotated[Visitor, Depends(_require(Scope.SUBMIT))]
PageAdmin = Annotated[Visitor, Depends(_require(Scope.ADMIN))]


async def read_action(request: Request, visitor: Visitor) -> FormData:
    """Return the fields of an action's form; raises ForgedAction if it is not of this session."""
    is_checked = forgery.has_token_header(request, visitor.csrf_secret)
    form = await request.form(max_fields=MAX_FIELDS)
    if not is_checked:
        forgery.check_token(visitor.csrf_secret, form.get(CSRF_FIELD))
    return form


async def _read_form(request: Request, visitor: Annotated[Visitor, Depends(find_visitor)]) -> FormData:
    return await read_action(request, visitor)


# The form of a POST; a route that has it is safe from forged requests.
ActionForm = Annotated[FormData, Depends(_read_form)]
