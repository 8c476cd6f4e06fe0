"""Responses whose JSON is written here once, without a detour over models."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import Request, Response

from models.documents import to_json

JSON = "application/json"


def json_response(document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """The response with this document."""
    return Response(to_json(document), status, headers, media_type=JSON)


def list_response(data: Sequence[Any], **more: Any) -> Response:
    """The response with a list, as every list of this API looks."""
    return json_response({"object": "list", "data": data, **more})


def json_with_etag(request: Request, document: Any) -> Response:
    """The document with an ETag; 304 without a body if the client has it already."""
    body = to_json(document).encode()
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"etag": etag, "cache-control": "no-cache"}
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if etag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=JSON)
