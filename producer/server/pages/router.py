"""All pages."""

from fastapi import APIRouter

from producer.server.pages.access import sign_in
from producer.server.pages.batches import router as batches
from producer.server.pages.frame import static_files
from producer.server.pages.operations import pipelines, workers
from producer.server.pages.overview import overview
from producer.server.pages.schedules import router as schedules

router = APIRouter(include_in_schema=False)
router.include_router(static_files.router)
router.include_router(sign_in.router)
router.include_router(overview.router)
router.include_router(workers.router)
router.include_router(pipelines.router)
router.include_router(batches.router)
router.include_router(schedules.router)
