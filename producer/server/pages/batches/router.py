"""The routes of the pages of batches."""

from fastapi import APIRouter

from producer.server.pages.batches import actions, batch_list, batch_page, downloads, repairs, results, retries, row

router = APIRouter()
router.include_router(batch_list.router)  # first, because `/batches/more` is no batch
router.include_router(batch_page.router)
router.include_router(results.router)
router.include_router(retries.router)
router.include_router(actions.router)
router.include_router(repairs.router)  # before the documents of a row
router.include_router(row.router)
router.include_router(downloads.router)
