"""The runs of a schedule in pages, with summaries but without their mean vectors, which are long."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, literal_column

from models.db import Database
from models.dialects.columns import Document
from models.states import RunState
from models.tables.schedules import Run
from producer.schedules.runs import run_views
from producer.schedules.runs.run_views import RunView

WITHOUT_MEAN_VECTOR = {
    "postgresql": "runs.summary #- '{quality,vectors,mean}'",
    "sqlite": "json_remove(runs.summary, '$.quality.vectors.mean')",
}


@dataclass(frozen=True, slots=True)
class RunPage:
    """Some runs, the latest first, and whether there are earlier ones."""

    runs: list[RunView]
    has_more: bool


def list_runs(
    database: Database, schedule: str, limit: int, *, before: datetime | None = None, state: RunState | None = None
) -> RunPage:
    """Return runs of a schedule, the latest first.

    before: only runs that were scheduled before this time; None = all
    state: only runs in this state; None = in any
    """
    query = run_views.select_views().with_only_columns(*_columns(database)).where(Run.schedule == schedule)
    if before is not None:
        query = query.where(Run.scheduled_at < before)
    if state is not None:
        query = query.where(Run.state == state.value)
    query = query.order_by(Run.scheduled_at.desc()).limit(limit + 1)
    with database.read() as connection:
        runs = [run_views.view_from_row(row) for row in connection.execute(query)]
    return RunPage(runs[:limit], len(runs) > limit)


def _columns(database: Database) -> list[ColumnElement[Any]]:
    summary = literal_column(WITHOUT_MEAN_VECTOR[database.engine.dialect.name], type_=Document)
    columns = run_views.select_views().selected_columns
    return [summary.label("summary") if column.name == "summary" else column for column in columns]
