"""`/login` and `/logout`: a session begins with an API key, and ends before its time."""

import math
from contextlib import suppress

import structlog
from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool

from models.errors import Forbidden, TooManyRequests, Unauthorized
from producer.server.context import Context, ServerContext
from producer.server.pages.access import forgery
from producer.server.pages.access.guesses import GuessLimit
from producer.server.pages.access.next_address import local_address
from producer.server.pages.access.visitor import (
    NOBODY,
    ActionForm,
    PageReader,
    is_session_valid,
    needs_session,
    read_action,
    session_token,
    visitor_with,
)
from producer.server.pages.frame.rendering import render, see_other
from producer.tenants import sessions
from producer.tenants.sessions import NewSession

log = structlog.get_logger(__name__)

router = APIRouter()

TEMPLATE = "access/sign_in.html"
STATUSES = ((Unauthorized, 401), (Forbidden, 403), (TooManyRequests, 429))
NO_KEY = "paste an API key; it begins with bm_"
NO_COOKIES = "the browser sent no cookie back; allow cookies for this address, then sign in"


@router.get("/login")
async def show_form(request: Request, context: Context) -> Response:
    """Show the form; who needs no session, or has one, goes on at once."""
    next_address = local_address(request.query_params.get("next"))
    visitor = visitor_with(request, NOBODY)
    if await is_session_valid(request, context):
        return RedirectResponse(next_address, 303)
    return render(request, visitor, TEMPLATE, next_address=next_address, error=None)


@router.post("/login")
async def sign_in(request: Request, context: Context) -> Response:
    """Begin a session with the key of the form."""
    forgery.check_origin(request)
    visitor = visitor_with(request, NOBODY)
    next_address = local_address(request.query_params.get("next"))
    if not await needs_session(context):
        return RedirectResponse(next_address, 303)
    if visitor.is_new:
        return render(request, visitor, TEMPLATE, 400, next_address=next_address, error=NO_COOKIES)
    form = await read_action(request, visitor)
    key_text = form.get("key")
    try:
        session = await run_in_threadpool(_begin, request, context, str(key_text or ""))
    except (Unauthorized, Forbidden, TooManyRequests) as error:
        status = next(status for kind, status in STATUSES if isinstance(error, kind))
        response = render(request, visitor, TEMPLATE, status, next_address=next_address, error=str(error))
        if isinstance(error, TooManyRequests):
            response.headers["retry-after"] = str(math.ceil(error.retry_after_seconds))
        return response
    redirect = RedirectResponse(next_address, 303)
    visitor.cookies.set(redirect, visitor.cookies.session, session.token)  # a new one, which nobody knew before
    return redirect


@router.post("/logout")
def sign_out(request: Request, context: Context, visitor: PageReader, _form: ActionForm) -> Response:
    """End the session."""
    if visitor.is_signed_in:
        _end(context, visitor.token)
        log.info("session.ended", key_id=visitor.principal.key_id)
    response = see_other(request, visitor, "/login")
    visitor.cookies.delete(response, visitor.cookies.session)
    return response


def _begin(request: Request, context: ServerContext, key_text: str) -> NewSession:
    """Begin a session in place of the one that the browser may have; raises what `sessions.sign_in` does."""
    guesses: GuessLimit = request.app.state.guess_limit
    address = request.client.host if request.client else ""
    if not key_text.strip():
        raise Unauthorized(NO_KEY)
    try:
        session = sessions.sign_in(context.database, key_text.strip())
    except (Unauthorized, Forbidden) as error:
        guesses.note_wrong_key(address)
        log.warning("session.refused", error_code=error.code, address=address)
        raise
    with suppress(Unauthorized):  # there is none
        _end(context, session_token(request))
    request.state.tenant, request.state.key_id = session.principal.tenant, session.principal.key_id
    log.info("session.started", key_id=session.principal.key_id)
    return session


def _end(context: ServerContext, token: str) -> None:
    sessions.sign_out(context.database, token)
    context.authenticator.forget_session(token)
