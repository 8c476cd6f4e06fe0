"""The routes of schedules, in the order of the OpenAPI document."""

from fastapi import APIRouter

from producer.server.native.schedules import actions, reading

router = APIRouter()
router.include_router(reading.router)
router.include_router(actions.router)
