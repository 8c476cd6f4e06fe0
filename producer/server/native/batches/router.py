"""The routes for batches, in the order in which the OpenAPI document lists them."""

from fastapi import APIRouter

from producer.server.native.batches import actions, following, reading, results

router = APIRouter()
for part in (reading, results, following, actions):
    router.include_router(part.router)
