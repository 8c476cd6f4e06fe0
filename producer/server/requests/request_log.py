"""The outermost layer of every request: its id, the headers of its response, its line in the log, and its defects."""

import asyncio
import secrets
import time
from dataclasses import dataclass

import structlog
from starlette.requests import ClientDisconnect

from models.errors import BatchmillError, Unreachable
from producer.server.downloads import IncompleteResponse
from producer.server.errors import error_body, error_response
from producer.server.requests.doors import door_of
from producer.server.requests.messages import App, Message, Receive, Scope, Send, send_json

log = structlog.get_logger(__name__)

# `no-store` where a route says nothing else: no proxy or browser keeps the results of a tenant.
DEFAULT_HEADERS = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))


@dataclass(slots=True)
class _Response:
    """A response that gets our headers on its way; `status` is 0 until it begins."""

    send_on: Send
    request_id: str
    status: int = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            present = {name.lower() for name, _ in message.get("headers", ())}
            ours = (*DEFAULT_HEADERS, (b"x-request-id", self.request_id.encode()))
            missing = [field for field in ours if field[0] not in present]
            message = {**message, "headers": [*message.get("headers", ()), *missing]}
        await self.send_on(message)


class RequestLog:
    """Answers defects with the status 500, and logs requests at level `debug`, without query strings and bodies."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        response, started_at = _Response(send, f"req_{secrets.token_hex(12)}"), time.monotonic()
        scope.setdefault("state", {})["request_id"] = response.request_id
        await self._handle(scope, receive, response)
        log.debug(
            "request.handled",
            method=scope["method"],
            route=route_template(scope),
            http_status=response.status,
            milliseconds=round(1000 * (time.monotonic() - started_at), 1),
            key_id=scope["state"].get("key_id"),
            request_id=response.request_id,
        )

    async def _handle(self, scope: Scope, receive: Receive, response: _Response) -> None:
        try:
            await self._app(scope, receive, response.send)
        except (ClientDisconnect, IncompleteResponse):
            pass  # nobody waits for an answer, or it was logged where it happened
        except asyncio.CancelledError:  # the server stops, and grace_seconds are over
            log.warning("request.cancelled", route=route_template(scope), request_id=response.request_id)
            if not response.status:
                stopping = Unreachable("the server stops; send the request again")
                await error_response(stopping)(scope, receive, response.send)
        except BatchmillError as error:
            await self._answer(error, scope, receive, response)
        except Exception as error:
            if response.status and isinstance(error.__cause__, BatchmillError):  # as Starlette wraps it
                await self._answer(error.__cause__, scope, receive, response)
            else:
                await self._answer_defect(error, scope, response)

    async def _answer_defect(self, error: Exception, scope: Scope, response: _Response) -> None:
        kind, request_id = type(error).__name__, response.request_id
        log.exception("request.failed", error_type=kind, route=route_template(scope), request_id=request_id)
        if not response.status:
            # The message is left out: drivers and parsers may quote an input in it.
            message = f"a defect in Batchmill ({kind}); its log has more under {request_id}"
            await send_json(response.send, 500, error_body(500, message, "internal_error"))

    async def _answer(self, error: BatchmillError, scope: Scope, receive: Receive, response: _Response) -> None:
        if not response.status:
            await error_response(error, door_of(scope["path"]))(scope, receive, response.send)
            return
        log.warning(
            "request.broken_off", error_code=error.code, route=route_template(scope), request_id=response.request_id
        )


def route_template(scope: Scope) -> str | None:
    """The template of the route, such as `/api/batches/{batch_id}`: a path may hold anything."""
    # The route itself does not know the prefix of the routers that include it.
    included = scope.get("fastapi", {}).get("effective_route_context")
    return getattr(included or scope.get("route"), "path_format", None)
