"""The routes of the pages of schedules."""

from fastapi import APIRouter

from producer.server.pages.schedules import actions, backfill, run_page, schedule_list, schedule_page

router = APIRouter()
router.include_router(schedule_list.router)
router.include_router(schedule_page.router)
router.include_router(run_page.router)
router.include_router(actions.router)
router.include_router(backfill.router)
