"""Validation of a new schedule against this machine's pipelines and sources."""

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any

from models.errors import SettingsError, UnreadableSource, UsageError
from models.pipelines.catalogue import Catalogue
from models.settings import Settings
from models.tasks.feature_extraction import FEATURE_EXTRACTION
from producer.readers.files.access import Access
from producer.readers.sql import sql_sources
from producer.readers.sql.sql_sources import SCHEDULE_PARAMETERS
from producer.schedules.definition import ScheduleDefinition
from producer.schedules.timing import deadlines, file_templates
from producer.webhooks import webhook_address
from producer.workers import model_checks

SAMPLE_TIME = datetime(2026, 11, 24, 1, tzinfo=UTC)  # any time will do


def validate(
    name: str, fields: Mapping[str, Any], settings: Settings, catalogue: Catalogue, base_folder: Path | None = None
) -> ScheduleDefinition:
    """Return the schedule that a person describes; raises UsageError with a sentence that names the field.

    The pipeline must be in the catalogue. A missing source is only a warning (see `find_warnings`), but the parameters
    of a query that is configured here must be right.

    name: name of the schedule
    fields: fields of its definition
    settings: settings of this process, with its sources
    catalogue: pipelines of this machine
    base_folder: folder for relative file paths, None = the current one; they are stored absolute because other
        processes run schedules
    """
    if isinstance(fields.get("file"), str):
        fields = {**fields, "file": file_templates.make_absolute(fields["file"], base_folder or Path.cwd())}
    schedule = ScheduleDefinition.from_fields(name, fields)
    try:
        pipeline = catalogue[schedule.pipeline]
        schedule.request_for(pipeline, SAMPLE_TIME)
        schedule.columns_for(pipeline.spec)
        _check_query(schedule, settings)
    except UsageError as error:
        raise UsageError(f"schedule {name!r}: {error}") from None
    return schedule


def find_warnings(schedule: ScheduleDefinition, settings: Settings, now: datetime) -> list[str]:
    """Return a sentence for each thing that may be missing or unintended, though the definition is valid.

    schedule: the schedule
    settings: settings of this process; others may run the schedule
    now: time of the call
    """
    names = {schedule.sql, schedule.into_source} - {None} - settings.sources.keys()
    warnings = [
        f"there is no [sources.{name}] here; the machines that run schedules need it"
        for name in sorted(map(str, names))
    ]
    if schedule.webhook is not None:
        warnings += webhook_address.find_warnings(schedule.webhook, settings)
    warnings += _find_past_deadline(schedule, now)
    if schedule.file is not None:
        try:
            Access.from_settings(settings).resolve(
                file_templates.render(schedule.file, SAMPLE_TIME, schedule.timetable)
            )
        except UnreadableSource as error:
            warnings.append(f"here {error}; the machines that run schedules must allow it")
    catalogue = Catalogue.load(settings)
    if schedule.pipeline in catalogue:
        try:
            model_checks.check_model(catalogue[schedule.pipeline])
        except SettingsError as error:
            warnings.append(str(error))
    return warnings


def find_shared_tables(
    schedules: Collection[ScheduleDefinition], others: Iterable[ScheduleDefinition], catalogue: Catalogue
) -> list[str]:
    """Return a sentence for each pair that writes vectors of two pipelines, or parameters, into one table.

    A run replaces vectors that are not its own, so that such schedules take turns in embedding all rows.

    schedules: those that a person has created or changed
    others: the active ones; of equal names, `schedules` count
    catalogue: pipelines of this machine
    """
    by_name = {schedule.name: schedule for schedule in (*others, *schedules)}
    new_names = {schedule.name for schedule in schedules}
    return [
        f"{first.name} and {second.name} write vectors of two pipelines or parameters into {first.into}, and each run "
        "would embed the other's rows again; name another table for one with into"
        for first, second in combinations([by_name[name] for name in sorted(by_name)], 2)
        if new_names & {first.name, second.name} and _replace_each_other(first, second, catalogue)
    ]


def _replace_each_other(first: ScheduleDefinition, second: ScheduleDefinition, catalogue: Catalogue) -> bool:
    if first.into is None or (first.into, first.into_source) != (second.into, second.into_source):
        return False
    pipelines = {first.pipeline, second.pipeline}
    has_vectors = any(name in catalogue and catalogue[name].task == FEATURE_EXTRACTION.name for name in pipelines)
    return has_vectors and (first.pipeline, first.params) != (second.pipeline, second.params)


def _find_past_deadline(schedule: ScheduleDefinition, now: datetime) -> list[str]:
    next_time = next(schedule.timetable.times_after(now), None)
    if schedule.deadline is None or next_time is None:
        return []
    if deadlines.deadline_after(next_time, schedule.deadline, schedule.timetable) is not None:
        return []
    return [
        f"the deadline {schedule.deadline} comes before the next run, at {schedule.format_time(next_time)}, "
        "so no run has one; take a duration such as 6h, or a time of day such as 06:00"
    ]


def _check_query(schedule: ScheduleDefinition, settings: Settings) -> None:
    if schedule.sql is None or schedule.sql not in settings.sources:
        return
    query = sql_sources.find_sql_source(settings, schedule.sql)
    query.bind(schedule.bind, dict.fromkeys(SCHEDULE_PARAMETERS, SAMPLE_TIME))
    if schedule.overlap == "allow" and "since" in query.parameter_names:
        raise UsageError(
            f"overlap: the source {schedule.sql!r} asks for :since, which is where the run before ended, so runs can't "
            "overlap; take skip or queue"
        )
