"""The OpenAPI document: what FastAPI knows of the routes, with our errors and the key that requests carry.

`docs/reference/openapi.json` is a copy, made by `make openapi`; a test compares the two.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from starlette.routing import BaseRoute

from models.documents import to_json
from models.version import VERSION
from producer.server.context import Context

DOCUMENT_PATH = "/api/openapi.json"
EVENT_STREAM = "text/event-stream"
PATH_PARAMETER = re.compile(r"\{[^}]+\}")
WITH_KEY: dict[str, list[str]] = {"key": []}
WITHOUT_KEY: dict[str, list[str]] = {}  # where no keys exist
HTTP_METHODS = ("get", "post", "put", "patch", "delete")

DESCRIPTION = """\
Batchmill runs Hugging Face pipelines over bulk data. A batch is submitted, workers answer it, and its results are read.

- `/v1` has OpenAI's file and batch API, for OpenAI's clients.
- `/api` has everything that the command line can do.

A request carries a key: `Authorization: Bearer bm_…`. A server without keys needs none, and listens on its own
machine only. Every error has the shape `{"error": {"message", "type", "param", "code"}}`; programs compare `code`.
"""

TAGS = {
    "batches": "Submit, watch, read and change batches.",
    "results": "Read results by pages and as files.",
    "following": "Wait for batches, and stream what changes.",
    "schedules": "Look at schedules, and run, suspend and resume them.",
    "pipelines": "The catalogue, who serves it, and what waits for it.",
    "tasks": "The tasks with their inputs, parameters and examples.",
    "usage": "What tenants used.",
    "operations": "Workers and the state of the system, for operators.",
    "OpenAI files": "Files as OpenAI's clients upload and read them.",
    "OpenAI batches": "Batches as OpenAI's clients create and watch them.",
    "OpenAI models": "The catalogue as OpenAI's clients list it.",
}

ERRORS = {
    400: "The request is wrong; the message says what to change.",
    401: "There is no such key.",
    403: "The key lacks the scope.",
    404: "There is no such thing, or it belongs to another tenant.",
    405: "The path has no such method.",
    408: "What was waited for did not happen in time.",
    409: "It contradicts an earlier request.",
    413: "The request is too large.",
    415: "The content type or the encoding of the body is not read here.",
    429: "Too many requests, or too much unanswered work; come again after `Retry-After` seconds.",
    503: "The database is unreachable; come again after `Retry-After` seconds.",
}
ERRORS_OF_ALL = (400, 401, 403, 404, 405, 429, 503)
ERRORS_WITH_BODY = (408, 409, 413, 415)

ERROR_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string", "description": "A sentence that says what to do."},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"], "description": "The field that is wrong."},
                "code": {"type": ["string", "null"], "description": "Stable; programs compare it."},
            },
        }
    },
    "example": {
        "error": {
            "message": "there is no batch 'batch_1'; list the batches: GET /api/batches",
            "type": "not_found_error",
            "param": None,
            "code": "not_found",
        }
    },
}

router = APIRouter()


@router.get("/api/openapi.json", include_in_schema=False)
def openapi_document(request: Request, context: Context) -> Response:
    """Return the OpenAPI document; it says whether requests need a key here."""
    document = request.app.openapi()
    if context.authenticator.needs_key(context.database):
        document = {**document, "security": [WITH_KEY]}
    return Response(to_json(document), media_type="application/json")


@router.get("/api", include_in_schema=False)
def index(request: Request) -> Response:
    """List the routes in short."""
    document = request.app.openapi()
    routes = [
        {"method": method.upper(), "path": path, "summary": operation["summary"]}
        for path, method, operation in _operations(document)
    ]
    info = document["info"]
    listing = {"object": "api", "title": info["title"], "version": info["version"], "openapi": DOCUMENT_PATH}
    return Response(to_json({**listing, "routes": routes}), media_type="application/json")


def describe(app: FastAPI, build: Callable[[], dict[str, Any]]) -> None:
    """Let an application describe itself by our document, which is built when it is first needed."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = build()
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def build_document(routes: Sequence[BaseRoute]) -> dict[str, Any]:
    """Build the document of these routes."""
    tags = [{"name": name, "description": description} for name, description in TAGS.items()]
    document = get_openapi(
        title="Batchmill", version=VERSION, description=DESCRIPTION, routes=routes, tags=tags, summary=None
    )
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own shape, which nobody gets
        schemas.pop(name, None)
    schemas["Error"] = ERROR_SCHEMA
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    document["security"] = [WITH_KEY, WITHOUT_KEY]
    for _, method, operation in _operations(document):
        _add_errors(operation, method)
        for response in operation["responses"].values():
            if EVENT_STREAM in response.get("content", {}):
                response["content"][EVENT_STREAM] = {}  # a schema would be that of each event
    return document


def methods_at(app: FastAPI, path: str) -> list[str]:
    """Return the methods that answer requests for a path, for the header `Allow`; none for a path without a route."""
    for template, methods in app.openapi()["paths"].items():
        if re.fullmatch(PATH_PARAMETER.sub("[^/]+", template), path):
            named = [method.upper() for method in HTTP_METHODS if method in methods]
            return [*(["GET", "HEAD"] if "GET" in named else []), *(name for name in named if name != "GET"), "OPTIONS"]
    return []


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method in HTTP_METHODS:
            if method in methods:
                yield path, method, methods[method]


def _add_errors(operation: dict[str, Any], method: str) -> None:
    responses = operation["responses"]
    responses.pop("422", None)  # FastAPI's word for what is a 400 here
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    for status in (*ERRORS_OF_ALL, *(() if method == "get" else ERRORS_WITH_BODY)):
        responses.setdefault(str(status), {"description": ERRORS[status], "content": content})
    for status, response in responses.items():
        if int(status) >= 400:
            response.setdefault("content", content)
    operation["responses"] = dict(sorted(responses.items()))
