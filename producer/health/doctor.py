"""The doctor: is everything there and healthy? Each finding says what to do, where there is something to do."""

import os
import shutil
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path

from models import clock, schema
from models.db import Database
from models.errors import DatabaseRefused, SettingsError, Unreachable, UsageError
from models.lifecycle import wakeups
from models.postgresql import privileges
from models.privacy import private_files, urls
from models.settings import Settings, config_file
from producer.batches import blockers, workers
from producer.batches.workers import GONE_AFTER_LEASES
from producer.health import database_stats, findings
from producer.health.database_stats import Backlog
from producer.health.findings import OK, PROBLEM, WARNING, Finding
from producer.readers.sql import sql_sources
from producer.schedules import status
from producer.schedules.alerts import events

WEEK = timedelta(days=7)
URL_SETTINGS = ("database_url", "redis_url")  # of the settings, those that may have a password in them


def run_checks(settings: Settings) -> Iterator[Finding]:
    """Look at everything, one after another; what does not answer is a finding and keeps from no other."""
    yield from _check_settings(settings)
    yield findings.check_limits(settings)
    yield from findings.check_disk(*_disk_space(settings))
    yield from findings.check_privacy(_exposed_paths(settings))
    redis = list(_check_redis(settings))
    yield from redis
    try:
        database = schema.open_database(settings, max_connections=2)
    except (Unreachable, DatabaseRefused) as error:
        advice = "nothing can be submitted or run until it is there"
        yield Finding(PROBLEM, "database", str(error), advice, isinstance(error, Unreachable))
        return
    try:
        yield from _check_tables(
            database, settings, is_redis_reachable=not any(finding.unreachable for finding in redis)
        )
    except Unreachable as error:
        yield Finding(PROBLEM, "database", str(error), "it went away while it was looked at; look again", True)
    except DatabaseRefused as error:
        yield Finding(PROBLEM, "database", str(error), "what was asked needs no more than to read its tables")
    finally:
        database.close()


def _check_redis(settings: Settings) -> Iterator[Finding]:
    try:
        yield from findings.check_redis(wakeups.server_info(settings), urls.redact_url(settings.broker_url))
    except Unreachable as error:
        start = "run: batchmill up" if settings.redis_url is None else "start it, or mend redis_url"
        advice = f"{start}; until then work goes on, but each piece of it begins later"
        yield Finding(PROBLEM, "redis", str(error), advice, unreachable=True)


def _check_tables(database: Database, settings: Settings, *, is_redis_reachable: bool) -> Iterator[Finding]:
    gone = GONE_AFTER_LEASES * settings.lease_seconds
    yield findings.check_database(database_stats.get_server(database), urls.redact_url(settings.resolved_database_url))
    if (standing_of_role := privileges.role_privileges(database)) is not None:
        yield from findings.check_role(standing_of_role)
    there = workers.list_workers(database, settings.lease_seconds)
    failed = blockers.list_load_failures(database)
    yield from findings.check_workers(there)
    yield from findings.check_load_failures(failed)
    backlogs = database_stats.list_backlogs(database, gone)
    yield from findings.check_backlogs(
        backlogs, there, _queue_depths(settings, backlogs) if is_redis_reachable else {}, failed
    )
    yield from findings.check_stuck_batches(database_stats.list_transitioning_batches(database))
    yield from findings.check_maintenance(database_stats.list_maintenance_tasks(database), gone)
    yield from _check_schedules(database, settings)


def _check_schedules(database: Database, settings: Settings) -> Iterator[Finding]:
    now = clock.clock_for(settings, database)()
    try:
        standings = status.list_statuses(database, now)
    except UsageError as error:  # made by a version that knew other words
        yield Finding(PROBLEM, "schedules", str(error), "delete it, and create it anew")
        return
    yield from findings.check_schedules(standings, events.count_undelivered(database, now - WEEK))


def _queue_depths(settings: Settings, backlogs: Iterable[Backlog]) -> dict[str, int]:
    try:
        return wakeups.queue_depths(settings, sorted({backlog.pipeline for backlog in backlogs}))
    except Unreachable:
        return {}  # it answered a moment ago, and the next look will tell


def _check_settings(settings: Settings) -> Iterator[Finding]:
    """The settings that are not as they come, and where each is from."""
    file = config_file()
    # Tables are too long for a line, and a source's URL has a password in it.
    tables = {"pipelines", "sources", "schedules"}
    given = {
        name: _format_setting(name, getattr(settings, name)) for name in sorted(settings.model_fields_set - tables)
    }
    environment = {name.upper() for name in os.environ}
    named = [
        f"{name}={value} ({'environment' if f'BATCHMILL_{name.upper()}' in environment else file})"
        for name, value in given.items()
    ]
    where = f"{file.absolute()}" if file else "no batchmill.toml"
    yield Finding(OK, "settings", f"{where}; {', '.join(named) or 'all as they come'}")
    for name in settings.sources:
        try:
            sql_sources.find_sql_source(settings, name)
        except SettingsError as error:
            yield Finding(WARNING, "settings", str(error), "mend it: whatever names this source fails")
    if settings.heartbeat_seconds > settings.lease_seconds / 2:
        yield Finding(
            WARNING,
            "settings",
            f"a lease of {settings.lease_seconds:g} s is lost with one heartbeat that comes late",
            f"set heartbeat_seconds to at most {settings.lease_seconds / 3:.2g}",
        )


def _format_setting(name: str, value: object) -> str:
    return urls.redact_url(str(value)) if name in URL_SETTINGS else str(value)


def _exposed_paths(settings: Settings) -> list[Path]:
    database = urls.parse_database_url(settings.resolved_database_url)
    ours = [settings.home_path]
    if database.get_backend_name() == "sqlite" and database.database:
        ours.append(Path(database.database))
    return [path for path in ours if private_files.is_open_to_others(path)]


def _disk_space(settings: Settings) -> tuple[Path, int]:
    url = settings.resolved_database_url
    folder = Path(url.removeprefix("sqlite:///")).parent if url.startswith("sqlite:///") else settings.home_path
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder, shutil.disk_usage(folder).free
