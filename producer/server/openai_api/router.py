"""The routes under `/v1`."""

from fastapi import APIRouter

from producer.server.openai_api import batches, direct_calls, files, models

router = APIRouter()
for area in (files, batches, models, direct_calls):  # the last one takes every path that the others leave
    router.include_router(area.router)
