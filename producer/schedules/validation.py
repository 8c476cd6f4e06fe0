"""Admission: a definition held against this machine's pipelines and sources before a schedule is made of it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from models.errors import UnreadableSource, UsageError
from models.pipelines.catalogue import Catalogue
from models.settings import Settings
from producer.readers.access import Access
from producer.readers.sql import sql_sources
from producer.readers.sql.sql_sources import SCHEDULE_PARAMETERS
from producer.schedules.alerts import webhook_address
from producer.schedules.alerts.webhook_address import AddressPolicy
from producer.schedules.definition import ScheduleDefinition
from producer.schedules.timing import file_templates

SAMPLE_TIME = datetime(2026, 11, 24, 1, tzinfo=UTC)  # any, to see what becomes of one


def validate(
    name: str, fields: Mapping[str, Any], settings: Settings, catalogue: Catalogue, base_folder: Path | None = None
) -> ScheduleDefinition:
    """The schedule that a person describes; raises UsageError, one sentence that names the field.

    A file's path is taken from `folder` on, this process' own unless another is named, and kept from the root on:
    schedules are run by other processes. The pipeline must be in this machine's catalogue. A source need not be here
    (see `doubts`), but where it is, the query's parameters must be right.
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


def find_warnings(schedule: ScheduleDefinition, settings: Settings) -> list[str]:
    """What is not wrong, but may be missing where the schedule runs: a sentence each."""
    names = {schedule.sql, schedule.into_source} - {None} - settings.sources.keys()
    found = [f"there is no [sources.{name}] here; whoever runs schedules needs it" for name in sorted(map(str, names))]
    if schedule.webhook is not None and settings.webhook_secret is None:
        found.append("webhook_secret is not set here; whoever runs schedules needs it, or nothing is sent")
    if schedule.webhook is not None and webhook_address.is_refused(
        schedule.webhook, AddressPolicy.from_setting(settings.webhook_allowed_hosts)
    ):
        found.append("the webhook's address is not public; whoever runs schedules needs it in webhook_allowed_hosts")
    if schedule.file is not None:
        try:
            Access.from_settings(settings).resolve(
                file_templates.render(schedule.file, SAMPLE_TIME, schedule.timetable)
            )
        except UnreadableSource as error:
            found.append(f"here {error}; whoever runs schedules must be allowed it")
    return found


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
