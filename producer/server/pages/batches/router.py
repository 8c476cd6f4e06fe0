"""The routes of the pages of batches."""

from fastapi import APIRouter

from producer.server.pages.batches import batch_list, batch_page

router = APIRouter()
router.include_router(batch_list.router)  # first, because `/batches/more` is no batch
router.include_router(batch_page.router)
