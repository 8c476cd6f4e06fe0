"""The source of a run's rows: a query with bound times, or the files of its scheduled time."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from models.errors import (
    MissingSource,
    SettingsError,
    SourceNotReady,
    UnknownPipeline,
    Unreachable,
    UnreadableSource,
    UsageError,
)
from models.pipelines.catalogue import Catalogue, TaskUnavailable
from models.pipelines.pipeline import Pipeline
from models.privacy import urls
from models.settings import Settings
from models.tasks.spec import TaskSpec
from producer import readers
from producer.readers.column_mapping import DEFAULT_ID_COLUMNS, ColumnMapping
from producer.readers.files import source_files
from producer.readers.files.access import Access, is_url
from producer.readers.limits import Limits
from producer.readers.rows import Problem, Row, Source
from producer.readers.sql import sql_sources
from producer.results.tabular import ColumnType
from producer.schedules.definition import ScheduleDefinition
from producer.schedules.timing import file_templates

# A file modified more recently counts as still being written, because writers flush every few seconds.
MIN_FILE_AGE_SECONDS = 10.0
# Clocks differ by less; a modification time further in the future is wrong, and no sign of a recent write.
MAX_CLOCK_SKEW_SECONDS = 3600.0

OnRecord = Callable[[Mapping[str, Any]], None]
FileSnapshot = dict[str, tuple[int, int]]  # size and modification time in ns, by path


class SourceTimes(NamedTuple):
    """The times of a run, which its query may name as parameters."""

    scheduled_at: datetime
    since: datetime
    until: datetime


class IdTypes:
    """The types of the ids that a query returns; files have ids of text."""

    def __init__(self, definition: ScheduleDefinition) -> None:
        self._columns = (definition.id,) if definition.id else DEFAULT_ID_COLUMNS
        self._types: set[ColumnType] = set()

    def add(self, record: Mapping[str, Any]) -> None:
        """Note the type of a row's id."""
        self.add_value(
            next((value for column in self._columns if (value := record.get(column)) not in (None, "")), None)
        )

    def add_value(self, value: object) -> None:
        """Note the type of an id; None = there is none."""
        if isinstance(value, UUID):
            self._types.add(ColumnType.UUID)
        elif isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
            self._types.add(ColumnType.INTEGER)
        elif value is not None:
            self._types.add(ColumnType.TEXT)

    @property
    def common_type(self) -> ColumnType:
        """The type of all ids, or text for several."""
        return next(iter(self._types)) if len(self._types) == 1 else ColumnType.TEXT


def pipeline_for(schedule: ScheduleDefinition, catalogue: Catalogue) -> Pipeline:
    """Return the schedule's pipeline; raises SourceNotReady if this machine's catalogue lacks it or its task."""
    try:
        return catalogue[schedule.pipeline]
    except (TaskUnavailable, UnknownPipeline) as error:
        raise SourceNotReady(f"on this machine {error}") from None


@contextmanager
def open_source(
    settings: Settings,
    schedule: ScheduleDefinition,
    spec: TaskSpec,
    times: SourceTimes,
    clock: Callable[[], float] = time.time,
    id_types: IdTypes | None = None,
) -> Iterator[Source]:
    """Open the rows of a run, from its query or its files.

    Raises SourceNotReady, also while rows are read, for conditions that may pass or be absent on another machine. These
    are a missing source or file, a file that is still being written, and an unreachable database. Raises UsageError for
    all other problems, such as an invalid query or file.

    settings: settings of this process, with its sources
    schedule: definition of the schedule
    spec: task of its pipeline
    times: times of the run
    clock: function that returns Unix seconds, compared with the files' modification times
    id_types: collects the types of a query's ids, None = nobody needs them
    """
    columns = schedule.columns_for(spec)
    with ExitStack() as stack:
        with _raise_not_yet():
            if schedule.sql is not None:
                on_record = (id_types or IdTypes(schedule)).add
                source = stack.enter_context(_open_query(settings, schedule, columns, times, on_record))
            else:
                name = file_templates.render(schedule.file or "", times.scheduled_at, schedule.timetable)
                bounds = Access.from_settings(settings), Limits.from_settings(settings)
                source = stack.enter_context(_open_files(name, schedule.format, columns, *bounds, clock))
        rows = translate_row_errors(source.rows)
        yield replace(source, rows=rows if schedule.into is None else require_ids(rows, schedule.into))


def _open_query(
    settings: Settings, schedule: ScheduleDefinition, columns: ColumnMapping, times: SourceTimes, on_record: OnRecord
) -> AbstractContextManager[Source]:
    from producer.readers.sql import query

    name = schedule.sql or ""
    if name not in settings.sources:
        raise SourceNotReady(f"this machine has no [sources.{name}] in its batchmill.toml")
    source, limits = sql_sources.find_sql_source(settings, name), Limits.from_settings(settings)
    return query.open_query(source, schedule.bind, columns, times._asdict(), limits, on_record)


@contextmanager
def _open_files(
    name: str,
    file_format: str | None,
    columns: ColumnMapping,
    access: Access,
    limits: Limits,
    clock: Callable[[], float],
) -> Iterator[Source]:
    def list_paths() -> list[str]:
        return [file.path for file in source_files.find_files([name], file_format, access)]

    paths = list_paths()
    snapshot = _snapshot_files(paths)
    for path, (_, modified_ns) in snapshot.items():
        if -MAX_CLOCK_SKEW_SECONDS < clock() - modified_ns / 1e9 < MIN_FILE_AGE_SECONDS:
            raise SourceNotReady(f"{urls.redact_path(path)} is still being written")
    with readers.open_source(paths, columns, file_format, access, limits) as source:
        yield replace(source, rows=_require_unchanged(source.rows, name, list_paths, snapshot))


def _require_unchanged(
    rows: Iterator[Row | Problem], name: str, list_files: Callable[[], list[str]], snapshot: FileSnapshot
) -> Iterator[Row | Problem]:
    """Yield the rows, and fail if the files have changed by the end, because a slow writer may pause for long."""
    read_error: UnreadableSource | None = None
    try:
        yield from rows
    except UnreadableSource as error:  # a truncated file, perhaps because it is still being written
        read_error = error
    if _snapshot_files(list_files()) != snapshot:
        raise SourceNotReady(f"{urls.redact_path(name)} was written to while it was read")
    if read_error is not None:
        raise read_error


def _snapshot_files(paths: Iterable[str]) -> FileSnapshot:
    snapshot = {}
    for path in paths:
        if not is_url(path):  # objects behind URLs are complete
            try:
                status = Path(path).stat()
            except OSError:
                raise MissingSource(f"{path} was there and is gone") from None
            snapshot[path] = (status.st_size, status.st_mtime_ns)
    return snapshot


def require_ids(rows: Iterator[Row | Problem], table: str) -> Iterator[Row | Problem]:
    """Yield the rows, and fail if none has an id for the output table, before anything is computed in vain."""
    without_id = with_id = 0
    for row in rows:
        if isinstance(row, Row):
            with_id += row.custom_id is not None
            without_id += row.custom_id is None
        yield row
    if without_id and not with_id:
        raise UsageError(f"no row has an id to find it again by in the table {table}; name the column that has it: id")


def translate_row_errors(rows: Iterator[Row | Problem]) -> Iterator[Row | Problem]:
    """Yield the rows; raises SourceNotReady for what may pass."""
    with _raise_not_yet():
        yield from rows


@contextmanager
def _raise_not_yet() -> Iterator[None]:
    try:
        yield
    except (MissingSource, SettingsError, Unreachable) as error:
        raise SourceNotReady(str(error)) from error
