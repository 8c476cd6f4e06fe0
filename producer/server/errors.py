"""Every error of the server has the shape that OpenAI's clients read: `{"error": {message, type, param, code}}`."""

import math
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DataError
from starlette.exceptions import HTTPException

from models.errors import (
    BatchmillError,
    DatabaseRefused,
    FileStoreUnavailable,
    Forbidden,
    IdempotencyConflict,
    IdempotencyKeyInUse,
    InvalidRows,
    NotFound,
    SchemaMismatch,
    SourceNotReady,
    SourceTooLarge,
    TooManyRequests,
    Unauthorized,
    Unreachable,
    UnsupportedEncoding,
    UsageError,
    WaitTimeout,
)
from producer.advice import Door, message_of
from producer.server import openapi_document
from producer.server.requests.doors import door_of
from producer.server.requests.field_paths import field_message, field_path

log = structlog.get_logger(__name__)

# The first class that an error belongs to decides.
STATUSES: tuple[tuple[type[BatchmillError], int], ...] = (
    (Unauthorized, 401),
    (Forbidden, 403),
    (NotFound, 404),
    (WaitTimeout, 408),
    (IdempotencyConflict, 409),
    (IdempotencyKeyInUse, 409),
    (SourceTooLarge, 413),
    (UnsupportedEncoding, 415),
    (UsageError, 400),
    (TooManyRequests, 429),
    (Unreachable, 503),
    (FileStoreUnavailable, 503),
    (SourceNotReady, 503),
)

# Messages of these errors name hosts, databases and folders, which are for the operator and go to the log only.
DATABASE_UNREACHABLE = "the database does not answer; try again soon"
PUBLIC_MESSAGES: tuple[tuple[type[BatchmillError], str], ...] = (
    (SchemaMismatch, "the server and its database have different versions; the server's log says more"),
    (Unreachable, DATABASE_UNREACHABLE),
    (DatabaseRefused, "the database refuses this; the server's log says more"),
    (FileStoreUnavailable, "the file store is full or does not answer; try again later"),
)

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    503: "service_unavailable_error",
}

HTTP_CODES = {  # of errors of the framework
    400: "invalid_request",
    404: "not_found",
    405: "method_not_allowed",
    415: "unsupported_media_type",
}
NO_ROUTE = "there is no such route; /api/openapi.json lists all of them"

UNREACHABLE_RETRY_SECONDS = 1
MAX_PARAM_CHARACTERS = 200  # of a field's name, which a client may have made up


def error_body(status: int, message: str, code: str | None, param: str | None = None, **more: Any) -> dict[str, Any]:
    """The body of an error."""
    kind = TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code, **more}}


def error_response(error: BatchmillError, door: Door = Door.HTTP) -> JSONResponse:
    """The response to an error of ours, in the words of a door."""
    status = status_of(error)
    headers = {} if error.retryable else {"x-should-retry": "false"}
    if isinstance(error, TooManyRequests):
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after_seconds)))
    elif status == 503:
        headers["retry-after"] = str(UNREACHABLE_RETRY_SECONDS)
    elif status == 401:
        headers["www-authenticate"] = "Bearer"
    message = public_message(error, door)
    problems: dict[str, Any] = {"problems": list(error.problems)} if isinstance(error, InvalidRows) else {}
    param = error.param and error.param[:MAX_PARAM_CHARACTERS]
    return JSONResponse(error_body(status, message, error.code, param, **problems), status, headers)


def status_of(error: BatchmillError) -> int:
    """The status of the response to an error."""
    return next((status for kind, status in STATUSES if isinstance(error, kind)), 500)


def public_message(error: BatchmillError, door: Door) -> str:
    """The message of an error in the words of a door, without what only the operator may see; that goes to the log."""
    message = message_of(error, door)
    public = next((text for kind, text in PUBLIC_MESSAGES if isinstance(error, kind)), message)
    if public != message:
        log.warning("request.part_unavailable", error_code=error.code, error=message)
    return public


def add_error_handlers(app: FastAPI) -> None:
    """Let every failure of a request end in one of these responses."""
    app.add_exception_handler(BatchmillError, _handle_our_error)
    app.add_exception_handler(RequestValidationError, _handle_invalid_request)
    app.add_exception_handler(DataError, _handle_unstorable_value)
    app.add_exception_handler(HTTPException, _handle_http_error)


def _handle_our_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, BatchmillError)
    return error_response(error, door_of(request.url.path))


def _handle_invalid_request(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    source, *path = first["loc"]
    if first["type"] == "json_invalid":  # its path is a number of characters
        return JSONResponse(error_body(400, "the body is not JSON; send an object", "invalid_request"), 400)
    param = field_path(path)[:MAX_PARAM_CHARACTERS]
    message = f"{param or source}: {field_message(first)}"
    return JSONResponse(error_body(400, message, "invalid_request", param or None), 400)


def _handle_unstorable_value(_request: Request, _error: Exception) -> JSONResponse:
    message = "a value of the request has a NUL character, or is a number that no database column holds"
    return JSONResponse(error_body(400, message, UsageError.code), 400, {"x-should-retry": "false"})


def _handle_http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, BatchmillError):  # FastAPI wraps what reading a body raises
        return error_response(error.__cause__, door_of(request.url.path))
    message = NO_ROUTE if error.status_code == 404 and error.detail == "Not Found" else str(error.detail)
    body = error_body(error.status_code, message, HTTP_CODES.get(error.status_code, "http_error"))
    headers = error.headers
    if error.status_code == 405 and (methods := openapi_document.methods_at(request.app, request.url.path)):
        headers = {"allow": ", ".join(methods)}  # each route knows its own methods only
    return JSONResponse(body, error.status_code, headers)
