"""The routes under `/api`."""

from fastapi import APIRouter

from producer.server.native import activity, usage
from producer.server.native.batches import router as batches
from producer.server.native.offered import pipelines, tasks
from producer.server.native.operations import router as operations
from producer.server.native.schedules import router as schedules

router = APIRouter()
router.include_router(usage.router)
router.include_router(activity.router)
router.include_router(batches.router)
router.include_router(schedules.router)
router.include_router(pipelines.router)
router.include_router(tasks.router)
router.include_router(operations.router)
