"""Direct calls of what only batches answer, and unknown routes, get an error that says what to do instead."""

from typing import NoReturn

from fastapi import APIRouter, HTTPException, Request

from models.errors import NotFound, UsageError
from producer.endpoints import NAMED_ENDPOINTS
from producer.endpoints.pipeline_inputs import PREFIX
from producer.server import openapi_document

router = APIRouter(include_in_schema=False)

DIRECT_CALL = "batch_only"
DOCUMENTATION = "docs/how-to/openai-api.md"
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


class DirectCall(UsageError):
    """A request that only a batch answers."""

    code = DIRECT_CALL


@router.api_route("/{path:path}", methods=METHODS, response_model=None)
def refuse(path: str, request: Request) -> NoReturn:
    """Refuse a route that there is not; the advice for direct calls names the way through batches."""
    url = f"/v1/{path}"
    if request.method == "POST" and (url in NAMED_ENDPOINTS or url.startswith(PREFIX)):
        raise DirectCall(
            f"{url} is answered in batches only: upload a file of such requests (POST /v1/files), create a batch "
            f"(POST /v1/batches) and read its output file; see {DOCUMENTATION}"
        )
    if request.method == "POST" and path.split("/")[0] in ("responses", "chat", "images", "audio"):
        raise DirectCall(
            f"{url[:80]} is not supported, neither directly nor in batches; batches answer "
            f"{', '.join(NAMED_ENDPOINTS)} and {PREFIX}NAME: see {DOCUMENTATION}"
        )
    if openapi_document.methods_at(request.app, url):
        raise HTTPException(405)
    raise NotFound(f"there is no {request.method} {url[:80]}; see {DOCUMENTATION} for the routes that there are")
