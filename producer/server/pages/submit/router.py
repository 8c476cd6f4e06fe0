"""The routes of the pages that submit."""

from fastapi import APIRouter

from producer.server.pages.submit import file_list, file_page, start, uploading

router = APIRouter()
router.include_router(start.router)
router.include_router(uploading.router)
router.include_router(file_list.router)
router.include_router(file_page.router)
