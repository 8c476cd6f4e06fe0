"""The source of a run that follows another: the results of that run's batch which the schedule selects."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from models.db import Database
from models.errors import NotFound, SourceNotReady, UsageError
from models.settings import Settings
from models.states import BatchStatus
from models.tasks.spec import TaskSpec
from producer.batches import views
from producer.readers.limits import Limits
from producer.readers.results.columns import ResultColumns
from producer.readers.results.reader import open_results
from producer.readers.rows import Source
from producer.schedules.definition import ScheduleDefinition
from producer.schedules.runs import sources
from producer.submission.request import FAIL_ROW


class SourceBatchDeleted(UsageError):
    """The batch whose results a run reads was deleted before they were read."""

    code = "batch_deleted"


@contextmanager
def open_followed_results(
    database: Database, settings: Settings, schedule: ScheduleDefinition, spec: TaskSpec, batch_id: str
) -> Iterator[Source]:
    """Open the selected results of a batch; there may be none.

    Raises SourceNotReady while the batch runs again, such as after `batchmill retry`, SourceBatchDeleted, and
    UsageError if no result has what the columns name, unless the schedule keeps invalid rows.
    """
    check_ended(database, batch_id)
    columns = schedule.columns_for(spec)
    assert isinstance(columns, ResultColumns)
    selection, limits = schedule.selection_from(batch_id), Limits.from_settings(settings)
    keep_invalid = schedule.on_invalid == FAIL_ROW
    with open_results(database, selection, columns, limits, keep_invalid=keep_invalid) as source:
        rows = sources.translate_row_errors(source.rows)
        yield replace(source, rows=rows if schedule.into is None else sources.require_ids(rows, schedule.into))


def check_ended(database: Database, batch_id: str) -> None:
    """Raise SourceNotReady unless the batch has ended, and SourceBatchDeleted if it is gone."""
    try:
        status = views.get_batch(database, batch_id).status
    except NotFound:
        status = BatchStatus.DELETING
    if status is BatchStatus.DELETING:
        raise SourceBatchDeleted(f"{batch_id}, whose results it reads, was deleted")
    if not status.has_ended:
        raise SourceNotReady(f"{batch_id}, whose results it reads, runs again and has not ended")
