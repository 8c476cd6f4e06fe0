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
from producer.readers.sql.sql_sources import MOMENTS
from producer.schedules.alerts import webhook_address
from producer.schedules.alerts.webhook_address import Reach
from producer.schedules.definition import Schedule
from producer.schedules.timing import file_templates

A_SLOT = datetime(2026, 11, 24, 1, tzinfo=UTC)  # any, to see what becomes of one


def admitted(
    name: str, said: Mapping[str, Any], settings: Settings, catalogue: Catalogue, folder: Path | None = None
) -> Schedule:
    """The schedule that a person describes; raises UsageError, one sentence that names the field.

    A file's path is taken from `folder` on, this process' own unless another is named, and kept from the root on:
    schedules are run by other processes. The pipeline must be in this machine's catalogue. A source need not be here
    (see `doubts`), but where it is, the query's parameters must be right.
    """
    if isinstance(said.get("file"), str):
        said = {**said, "file": file_templates.located(said["file"], folder or Path.cwd())}
    schedule = Schedule.of(name, said)
    try:
        pipeline = catalogue[schedule.pipeline]
        schedule.request(pipeline, A_SLOT)
        schedule.columns(pipeline.spec)
        _check_query(schedule, settings)
    except UsageError as error:
        raise UsageError(f"schedule {name!r}: {error}") from None
    return schedule


def doubts(schedule: Schedule, settings: Settings) -> list[str]:
    """What is not wrong, but may be missing where the schedule runs: a sentence each."""
    names = {schedule.sql, schedule.into_source} - {None} - settings.sources.keys()
    found = [f"there is no [sources.{name}] here; whoever runs schedules needs it" for name in sorted(map(str, names))]
    if schedule.webhook is not None and settings.webhook_secret is None:
        found.append("webhook_secret is not set here; whoever runs schedules needs it, or nothing is sent")
    if schedule.webhook is not None and webhook_address.is_refused(
        schedule.webhook, Reach.of(settings.webhook_allowed_hosts)
    ):
        found.append("the webhook's address is not public; whoever runs schedules needs it in webhook_allowed_hosts")
    if schedule.file is not None:
        try:
            Access.of(settings).admitted(file_templates.named(schedule.file, A_SLOT, schedule.times))
        except UnreadableSource as error:
            found.append(f"here {error}; whoever runs schedules must be allowed it")
    return found


def _check_query(schedule: Schedule, settings: Settings) -> None:
    if schedule.sql is None or schedule.sql not in settings.sources:
        return
    query = sql_sources.find(settings, schedule.sql)
    query.bound(schedule.bind, dict.fromkeys(MOMENTS, A_SLOT))
    if schedule.overlap == "allow" and "since" in query.names:
        raise UsageError(
            f"overlap: the source {schedule.sql!r} asks for :since, which is where the run before ended, so runs can't "
            "overlap; take skip or queue"
        )
