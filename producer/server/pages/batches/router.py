"""The routes of the pages of batches."""

from fastapi import APIRouter

from producer.server.pages.batches import batch_list, results

router = APIRouter()
router.include_router(batch_list.router)
router.include_router(results.router)
