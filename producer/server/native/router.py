"""The routes under `/api`."""

from fastapi import APIRouter

from producer.server.native import usage
from producer.server.native.batches import router as batches

router = APIRouter()
router.include_router(usage.router)
router.include_router(batches.router)
