"""Sources: where a run's rows come from, its query bound to its moments, or the files that its slot names."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from models.errors import (
    MissingSource,
    NotYet,
    SettingsError,
    UnknownPipeline,
    Unreachable,
    UnreadableSource,
    UsageError,
)
from models.pipelines.catalogue import Catalogue
from models.pipelines.pipeline import Pipeline
from models.privacy import urls
from models.settings import Settings
from models.tasks.spec import TaskSpec
from producer import readers
from producer.readers import files
from producer.readers.access import Access, is_url
from producer.readers.limits import Limits
from producer.readers.rows import Columns, Problem, Row, Source
from producer.readers.sql import sql_sources
from producer.schedules.definition import Schedule
from producer.schedules.timing import file_templates

# A file that was written to so lately is taken to be still on its way: writers flush every few seconds.
SETTLED_SECONDS = 10.0
# Further ahead than clocks differ, a file's date says nothing about when it was written.
ASTRAY_SECONDS = 3600.0

Look = dict[str, tuple[int, int]]  # size and time of change, by path


def pipeline_of(schedule: Schedule, catalogue: Catalogue) -> Pipeline:
    """The schedule's pipeline; raises NotYet where this machine has none of that name."""
    try:
        return catalogue[schedule.pipeline]
    except UnknownPipeline as error:
        raise NotYet(f"on this machine {error}") from None


@contextmanager
def opened(
    settings: Settings, schedule: Schedule, spec: TaskSpec, *, slot: datetime, since: datetime, until: datetime,
    clock: Callable[[], float] = time.time,
) -> Iterator[Source]:  # fmt: skip
    """The rows of a run: those of its query, in which `:slot`, `:since` and `:until` are bound, or of its files.

    Raises NotYet, here or as rows are read, for what may pass with time or on another machine: no such source or file
    here, a file that is still written to, or a database that does not answer. Raises UsageError for the rest: a query
    that is wrong, a file that is not what it says it is. `clock` tells the time by which files are dated.
    """
    columns = schedule.columns(spec)
    with ExitStack() as stack:
        with _may_pass():
            if schedule.sql is not None:
                moments = {"slot": slot, "since": since, "until": until}
                source = stack.enter_context(_queried(settings, schedule.sql, schedule, columns, moments))
            else:
                name = file_templates.named(schedule.file or "", slot, schedule.times)
                bounds = Access.of(settings), Limits.of(settings)
                source = stack.enter_context(_filed(name, schedule.format, columns, *bounds, clock))
        rows = _patient(source.rows)
        yield replace(source, rows=rows if schedule.into is None else _identified(rows, schedule.into))


def _queried(
    settings: Settings, name: str, schedule: Schedule, columns: Columns, moments: dict[str, datetime]
) -> AbstractContextManager[Source]:
    from producer.readers.sql import query

    if name not in settings.sources:
        raise NotYet(f"this machine has no [sources.{name}] in its batchmill.toml")
    return query.opened(sql_sources.find(settings, name), schedule.bind, columns, moments, Limits.of(settings))


@contextmanager
def _filed(
    name: str, kind: str | None, columns: Columns, access: Access, limits: Limits, clock: Callable[[], float]
) -> Iterator[Source]:
    def listed() -> list[str]:
        return [file.path for file in files.found([name], kind, access)]

    found = listed()
    look = _looked(found)
    for path, (_, changed) in look.items():
        if -ASTRAY_SECONDS < clock() - changed / 1e9 < SETTLED_SECONDS:
            raise NotYet(f"{urls.shown_file(path)} is still being written")
    with readers.opened(found, columns, kind, access, limits) as source:
        yield replace(source, rows=_unchanged(source.rows, name, listed, look))


def _unchanged(
    rows: Iterator[Row | Problem], name: str, listed: Callable[[], list[str]], look: Look
) -> Iterator[Row | Problem]:
    """The rows, if the files are the same in the end: a slow writer may rest for longer than it takes to settle."""
    broken: UnreadableSource | None = None
    try:
        yield from rows
    except UnreadableSource as error:  # of a file that ends early, perhaps for the same reason
        broken = error
    if _looked(listed()) != look:
        raise NotYet(f"{urls.shown_file(name)} was written to while it was read")
    if broken is not None:
        raise broken


def _looked(paths: Iterable[str]) -> Look:
    found = {}
    for path in paths:
        if not is_url(path):  # what is reached by URL comes whole
            try:
                status = Path(path).stat()
            except OSError:
                raise MissingSource(f"{path} was there and is gone") from None
            found[path] = (status.st_size, status.st_mtime_ns)
    return found


def _identified(rows: Iterator[Row | Problem], into: str) -> Iterator[Row | Problem]:
    """The rows, if they have ids to find them again by in a table: else that is told before all is computed in vain."""
    without = with_id = 0
    for row in rows:
        if isinstance(row, Row):
            with_id += row.custom_id is not None
            without += row.custom_id is None
        yield row
    if without and not with_id:
        raise UsageError(f"no row has an id to find it again by in the table {into}; name the column that has it: id")


def _patient(rows: Iterator[Row | Problem]) -> Iterator[Row | Problem]:
    with _may_pass():
        yield from rows


@contextmanager
def _may_pass() -> Iterator[None]:
    try:
        yield
    except (MissingSource, SettingsError, Unreachable) as error:
        raise NotYet(str(error)) from error
