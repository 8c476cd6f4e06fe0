"""`/v1/models`: the pipelines of this server."""

import time
from typing import Any

from fastapi import APIRouter

from models.errors import NotFound
from producer.server.access import Reader
from producer.server.context import Context
from producer.server.openai_api import objects
from producer.uploads.intake.openai_batches import MODEL_NOT_FOUND

router = APIRouter(prefix="/models", tags=["OpenAI models"])

STARTED_AT = int(time.time())


class UnknownModel(NotFound):
    """A model that no pipeline has as its name."""

    code = MODEL_NOT_FOUND


@router.get("")
def list_models(context: Context, _principal: Reader) -> dict[str, Any]:
    """List the pipelines that a line may name as its model, with the endpoints that they answer."""
    return objects.list_object(
        [objects.model_object(pipeline, STARTED_AT) for pipeline in context.catalogue.values()], has_more=False
    )


@router.get("/{name:path}")  # names of models on the Hub have a slash
def get_model(name: str, context: Context, _principal: Reader) -> dict[str, Any]:
    """Show one pipeline."""
    if name not in context.catalogue:
        raise UnknownModel(f"there is no pipeline {name[:80]!r}; list those that there are: GET /v1/models")
    return objects.model_object(context.catalogue[name], STARTED_AT)
