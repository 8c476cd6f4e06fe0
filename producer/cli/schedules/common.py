"""Helpers that the commands under `batchmill schedule` share."""

from collections.abc import Collection
from contextlib import suppress
from datetime import datetime

import click

from models.db import Database
from models.errors import UsageError
from models.pipelines.catalogue import Catalogue
from models.privacy import terminal
from models.settings import Settings
from producer.batches import blockers
from producer.cli.schedules import schedule_tables
from producer.schedules import registry, validation
from producer.schedules.definition import ScheduleDefinition
from producer.schedules.reports import MAX_NEXT_TIMES
from producer.schedules.schedule_view import ScheduleView
from producer.workers import workers


def echo_next_times(view: ScheduleView, now: datetime) -> None:
    """Print the next scheduled times, one per line."""
    for line in schedule_tables.format_next_times(view, now, MAX_NEXT_TIMES):
        click.echo(f"  {line}")


def print_warnings(
    database: Database, definitions: Collection[ScheduleDefinition], settings: Settings, now: datetime
) -> None:
    """Print what the schedules need but this machine lacks, which others may have, and what is probably unintended."""
    warnings = {warning for item in definitions for warning in validation.find_warnings(item, settings, now)}
    with suppress(UsageError):  # another schedule can't be read by this version
        active = [view.definition for view in registry.list_schedules(database) if view.suspended_at is None]
        warnings.update(validation.find_shared_tables(definitions, active, Catalogue.load(settings)))
    for warning in sorted(warnings):
        terminal.print_notice(warning)


def warn_if_no_worker(database: Database, settings: Settings) -> None:
    """Print a notice if no process runs schedules; an `up` in this home may just have started."""
    if workers.schedules_are_served(database):
        return
    if (holder := blockers.find_up(settings.home_path)) is not None:
        terminal.print_notice(f"`batchmill up` (pid {holder.pid}) is starting, and then runs what is due")
        return
    terminal.print_notice(
        "no worker and no batchmill maintain runs now, so nothing will start: batchmill up, or batchmill maintain"
    )
