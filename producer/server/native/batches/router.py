"""The routes for batches, in the order in which the OpenAPI document lists them."""

from fastapi import APIRouter

from producer.server.native.batches import actions, reading

router = APIRouter()
for part in (reading, actions):
    router.include_router(part.router)
