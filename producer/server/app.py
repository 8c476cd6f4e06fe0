"""The application: its routes and what they share."""

from functools import cache, partial
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from starlette.middleware.cors import CORSMiddleware
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from models import version
from models.db import Database, PoolOptions
from producer.server import openapi_document
from producer.server.context import ServerContext
from producer.server.errors import add_error_handlers
from producer.server.health import router as health
from producer.server.metrics import router as metrics
from producer.server.metrics.http_requests import HttpMeasurement
from producer.server.metrics.registry import ServerMetrics
from producer.server.native import router as native
from producer.server.openai_api import router as openai_api
from producer.server.pages import router as pages
from producer.server.pages.access import forgery, visitor
from producer.server.pages.access.guesses import GuessLimit
from producer.server.pages.frame.page_rules import PageRules
from producer.server.pages.live.hub import LiveHub
from producer.server.requests import outages, proxies
from producer.server.requests.bodies import MAX_DOCUMENTS, BodyLimit, UploadSlots
from producer.server.requests.doors import is_for_machines
from producer.server.requests.head_requests import HeadRequests
from producer.server.requests.key_first import KeyFirst
from producer.server.requests.messages import Scope
from producer.server.requests.origins import OriginCheck
from producer.server.requests.outages import DatabaseWatch, OutageGuard
from producer.server.requests.rates import RateLimit
from producer.server.requests.request_log import RequestLog

EXPOSED_HEADERS = ("x-request-id", "retry-after", "content-disposition", "etag")


def create_app(context: ServerContext, *, checks_origins: bool = False) -> FastAPI:
    """Build the application over an open database.

    checks_origins: whether requests without a key must name this machine and come from no foreign web page
    """
    app = FastAPI(title="Batchmill", version=version.full_version(), docs_url=None, redoc_url=None, openapi_url=None)
    app.state.context = context
    app.state.live_hub = LiveHub(context)
    add_error_handlers(app)
    _add_rules(app, context, checks_origins=checks_origins)
    app.router.routes.extend(_routes().routes)
    openapi_document.describe(app, _document)
    return app


@cache
def _routes() -> APIRouter:
    """Collect all routes; applications share them, because FastAPI analyses 150 functions at their first request."""
    routes = APIRouter()
    routes.include_router(openai_api.router, prefix="/v1")
    routes.include_router(native.router, prefix="/api")
    routes.include_router(health.router)
    routes.include_router(metrics.router)
    routes.include_router(openapi_document.router)
    routes.include_router(pages.router)
    return routes


@cache
def _document() -> dict[str, Any]:
    return openapi_document.build_document(_routes().routes)


def _add_rules(app: FastAPI, context: ServerContext, *, checks_origins: bool) -> None:
    """Add what holds for every request; the last layer that is added is the outermost."""
    settings = context.settings
    app.state.upload_slots = UploadSlots(settings.max_concurrent_uploads)
    app.state.document_slots = UploadSlots(MAX_DOCUMENTS)
    app.state.rate_limit = RateLimit(settings.requests_per_minute)
    app.add_middleware(BodyLimit)
    app.state.guess_limit = GuessLimit()
    app.add_middleware(KeyFirst, check=partial(_check_credentials, context))
    if checks_origins:
        app.add_middleware(
            OriginCheck,
            needs_key=lambda: context.authenticator.needs_key(context.database),
            allowed=frozenset(settings.cors_origins),
        )
    app.add_middleware(OutageGuard, watch=_watch_database(context, app))
    app.state.metrics = ServerMetrics(context.database, settings)
    app.add_middleware(HeadRequests)
    app.add_middleware(HttpMeasurement, metrics=app.state.metrics.http)
    app.add_middleware(RequestLog)
    app.add_middleware(PageRules)
    if settings.cors_origins:  # outermost, so that pages can read errors too
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=("GET", "HEAD", "POST", "DELETE"),
            allow_headers=("*",),  # OpenAI's client sends a dozen
            expose_headers=EXPOSED_HEADERS,
        )
    if settings.serve_trusted_proxies:
        networks = proxies.networks_of(settings.serve_trusted_proxies)
        app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=networks)


def _check_credentials(context: ServerContext, scope: Scope) -> None:
    """Raise Unauthorized if a request has neither a key nor, for a page, a session; Forbidden if it is forged."""
    request = Request(scope)
    key_headers = request.headers.getlist("authorization")
    if key_headers or is_for_machines(scope["path"]):
        context.authenticator.authenticate(context.database, key_headers)
        return
    forgery.check_origin(request)
    if context.authenticator.needs_key(context.database):
        context.authenticator.authenticate_session(context.database, visitor.session_token(request))


def _watch_database(context: ServerContext, app: FastAPI) -> DatabaseWatch:
    pool = PoolOptions(outages.MAX_PINGS, context.settings.database_behind_pooler)
    pings = Database(context.database.url, connect_timeout_seconds=outages.CONNECT_SECONDS, pool=pool)
    app.state.database_watch = DatabaseWatch(context.database, pings, outages.PING_SECONDS)
    watch: DatabaseWatch = app.state.database_watch
    return watch
