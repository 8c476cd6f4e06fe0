"""What a model that can't be used leaves behind: its waiting batches fail at once, with the reason."""

import structlog
from sqlalchemy import text

from models import endings
from models.db import Database
from models.errors import ModelError
from models.pipeline import Pipeline
from models.states import Ending

log = structlog.get_logger(__name__)

# Another live worker may well have the model: then the batches are not ours to fail.
SERVED_ELSEWHERE = "SELECT count(*) FROM workers WHERE pipeline = :pipeline AND heartbeat_at > {later}"

WAITING = "SELECT id FROM batches WHERE pipeline = :pipeline AND status = 'in_progress' ORDER BY id"


def fail_waiting(database: Database, pipeline: Pipeline, error: ModelError, lease_seconds: float) -> list[str]:
    """Fail every waiting batch of this pipeline, unless a live worker serves it; returns their ids."""
    named = {"pipeline": pipeline.name, "seconds": -lease_seconds}
    with database.read() as connection:
        if connection.scalar(text(SERVED_ELSEWHERE.format(later=database.sql.later)), named):
            return []
        waiting = list(connection.scalars(text(WAITING), named))
    for batch_id in waiting:
        endings.end(database, batch_id, Ending.FAILED, error.code, str(error))
        endings.finish(database, batch_id)
        log.error("batch failed", batch=batch_id, code=error.code, error=str(error))
    return waiting
