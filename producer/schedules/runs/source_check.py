"""The check of a schedule's source and output table, before its first run: it reads a few rows and writes nothing."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from sqlalchemy import inspect

from models.db import Database
from models.errors import BatchmillError, JobError, MissingSource, SourceNotReady, UsageError
from models.pipelines.catalogue import Catalogue
from models.pipelines.pipeline import Pipeline
from models.privacy import urls
from models.settings import Settings
from producer.readers.files import source_files
from producer.readers.files.access import Access
from producer.readers.rows import Problem, Row, Source
from producer.readers.sql import sql_sources
from producer.results.tables.column_types import read_column_types
from producer.schedules.definition import ScheduleDefinition
from producer.schedules.runs import sources
from producer.schedules.runs.following import followers
from producer.schedules.runs.following.followed_results import SourceBatchDeleted, open_followed_results
from producer.schedules.runs.output import output_table
from producer.schedules.runs.sources import SourceTimes
from producer.schedules.timing import file_templates

OK, WARNING, PROBLEM = "ok", "warning", "problem"
MAX_ROWS_READ = 20  # an invalid row fails alone, so a source is wrong only if its first rows all are
MAX_TIMES_CHECKED = 31  # scheduled times whose files are looked for, latest first


@dataclass(frozen=True, slots=True)
class SourceCheck:
    """The outcome of a check: `ok`, a `warning` about what may be right later or elsewhere, or a `problem`."""

    level: str
    message: str


def check_source(
    database: Database, settings: Settings, catalogue: Catalogue, definition: ScheduleDefinition, now: datetime
) -> SourceCheck:
    """Read a row as a run at `now` would, and look at the output table."""
    try:
        if definition.sql is not None and definition.sql not in settings.sources:
            return SourceCheck(WARNING, f"there is no [sources.{definition.sql}] here, so nothing was read")
        source = _find_source(database, settings, catalogue, definition, now)
        if isinstance(source, SourceCheck):
            return source
        check = _check_rows(catalogue, definition, source)
        if definition.into is not None and check.level != PROBLEM:
            _check_output_table(database, settings, definition, definition.into)
    except SourceBatchDeleted:
        return SourceCheck(WARNING, f"the last results of {definition.after} were deleted, so nothing was read")
    except BatchmillError as error:
        is_late = definition.sql is None and isinstance(error, SourceNotReady)
        return SourceCheck(WARNING if is_late else PROBLEM, str(error))
    return check


def _find_source(
    database: Database, settings: Settings, catalogue: Catalogue, definition: ScheduleDefinition, now: datetime
) -> AbstractContextManager[Source] | SourceCheck:
    """Return what opens the source that the next run would read; or the outcome, where there is none yet."""
    spec = catalogue[definition.pipeline].spec
    if definition.after is not None:
        with database.read() as connection:
            last = followers.last_source_of(connection, definition.after)
        if last is None:
            return SourceCheck(WARNING, f"{definition.after} has no completed run yet, so nothing was read")
        return open_followed_results(database, settings, definition, spec, last.batch_id)
    scheduled_at = _time_with_files(definition, settings, now) if definition.file is not None else now
    if scheduled_at is None:
        name = urls.redact_path(file_templates.render(definition.file or "", now, definition.timetable))
        return SourceCheck(WARNING, f"there is no file yet, such as {name}, so nothing was read")
    times = SourceTimes(scheduled_at, definition.initial_since, now)
    return sources.open_source(settings, definition, spec, times)


def _time_with_files(definition: ScheduleDefinition, settings: Settings, now: datetime) -> datetime | None:
    """Return the latest scheduled time, or the next one, for which there are files; None if there are none."""
    access = Access.from_settings(settings)
    past = islice(definition.timetable.times_before(now), MAX_TIMES_CHECKED)
    for scheduled_at in (*islice(definition.timetable.times_after(now), 1), *past):
        try:
            name = file_templates.render(definition.file or "", scheduled_at, definition.timetable)
            if next(iter(source_files.find_files([name], definition.format, access)), None) is not None:
                return scheduled_at
        except (MissingSource, SourceNotReady):
            continue
    return None


def _check_rows(
    catalogue: Catalogue, definition: ScheduleDefinition, opened: AbstractContextManager[Source]
) -> SourceCheck:
    pipeline = catalogue[definition.pipeline]
    with opened as source:
        first_problem: str | None = None
        for row in islice(source.rows, MAX_ROWS_READ):
            problem = row.message if isinstance(row, Problem) else _input_problem(definition, pipeline, row)
            location = source.describe_location(row.location)
            if problem is None:
                return SourceCheck(OK, f"{location} of {source.name} is an input")
            first_problem = first_problem or f"{location} of {source.name} is no input: {problem}"
    if first_problem is None:
        return SourceCheck(WARNING, f"{source.name} has no rows now, so its columns alone were checked")
    return SourceCheck(PROBLEM, first_problem)


def _input_problem(definition: ScheduleDefinition, pipeline: Pipeline, row: Row) -> str | None:
    try:
        pipeline.spec.normalise(row.raw_input, {**pipeline.parameters, **definition.params})
    except JobError as error:
        return str(error)
    if definition.into is not None and row.custom_id is None:
        return f"it has no id to find it again by in the table {definition.into}; name the column that has it: id"
    return None


def _check_output_table(database: Database, settings: Settings, definition: ScheduleDefinition, table: str) -> None:
    if definition.into_source is None:
        _check_table(database, table)
        return
    if definition.into_source not in settings.sources:
        raise UsageError(f"there is no [sources.{definition.into_source}] here, which into_source names")
    source = sql_sources.find_sql_source(settings, definition.into_source)
    with output_table.open_source_database(source) as user_database:
        _check_table(user_database, table)


def _check_table(database: Database, table: str) -> None:
    with database.read() as connection:
        if not inspect(connection).has_table(table):
            return
        columns = read_column_types(connection, table).keys()
    if not {"id", *(name for name, _ in output_table.PROVENANCE_COLUMNS)} <= columns:
        raise UsageError(f"the table {table} is not one that schedules write; name another with into")
