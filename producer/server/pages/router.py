"""All pages."""

from fastapi import APIRouter

from producer.server.pages import sign_in
from producer.server.pages.batches import router as batches
from producer.server.pages.frame import static_files
from producer.server.pages.live import router as live
from producer.server.pages.operations import audit, doctor, keys, pipeline_page, pipelines, usage, workers
from producer.server.pages.overview import overview
from producer.server.pages.schedules import router as schedules
from producer.server.pages.submit import router as submit

router = APIRouter(include_in_schema=False)
router.include_router(static_files.router)
router.include_router(sign_in.router)
router.include_router(overview.router)
router.include_router(workers.router)
router.include_router(pipelines.router)
router.include_router(pipeline_page.router)
router.include_router(batches.router)
router.include_router(live.router)
router.include_router(schedules.router)
router.include_router(submit.router)
router.include_router(doctor.router)
router.include_router(audit.router)
router.include_router(usage.router)
router.include_router(keys.router)
