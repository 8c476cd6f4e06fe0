"""The routes for batches, in the order in which the OpenAPI document lists them."""

from fastapi import APIRouter

from producer.server.native.batches import actions, deliveries, following, reading, repairs, results, submissions

router = APIRouter()
for part in (submissions, reading, results, following, deliveries, actions, repairs):
    router.include_router(part.router)
