"""The doctor checks that every part is reachable and healthy; each finding says what to do, if anything."""

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path

from models import clock, schema, version
from models.db import Database
from models.errors import DatabaseRefused, SettingsError, Unreachable
from models.hardware import gpus
from models.lifecycle import wakeups
from models.lifecycle.wakeups import ServerInfo
from models.pipelines.catalogue import Catalogue
from models.postgresql import access
from models.privacy import private_files, urls
from models.settings import Settings, config_file, unknown_variables
from models.tasks.own import registry
from producer.batches import blockers
from producer.health import (
    code_checks,
    database_stats,
    dtype_checks,
    findings,
    key_checks,
    servers,
    upload_checks,
    work_findings,
)
from producer.health.database_stats import Backlog
from producer.health.findings import OK, PROBLEM, WARNING, Finding
from producer.readers.sql import sql_sources
from producer.schedules import status
from producer.schedules.alerts import events
from producer.webhooks import batch_deliveries
from producer.workers import model_checks, workers
from producer.workers.workers import GONE_AFTER_LEASES, WorkerView

WEEK = timedelta(days=7)
URL_SETTINGS = ("database_url", "redis_url")  # settings that may contain a password


def run_checks(settings: Settings) -> Iterator[Finding]:
    """Check every part in turn; a part that does not respond is a finding, and the other checks go on."""
    yield Finding(OK, "version", f"Batchmill {version.full_version()}, for tables {schema.HEAD}")
    yield from _check_settings(settings)
    yield from findings.check_own_tasks(registry.load_all())
    yield findings.check_limits(settings)
    yield from findings.check_disk(*_disk_space(settings))
    yield from findings.check_privacy(_exposed_paths(settings))
    redis = _ask_redis(settings)
    yield from _check_redis(settings, redis)
    try:
        database = schema.open_database(settings, max_connections=2)
    except (Unreachable, DatabaseRefused) as error:
        advice = "nothing can be submitted or run until it responds"
        yield Finding(PROBLEM, "database", str(error), advice, isinstance(error, Unreachable))
        return
    try:
        yield from _check_tables(database, settings, is_redis_reachable=isinstance(redis, ServerInfo))
    except Unreachable as error:
        yield Finding(PROBLEM, "database", str(error), "the connection broke during the checks; run them again", True)
    except DatabaseRefused as error:
        yield Finding(PROBLEM, "database", str(error), "the checks only need to read its tables")
    finally:
        database.close()


def _ask_redis(settings: Settings) -> ServerInfo | Unreachable:
    try:
        return wakeups.server_info(settings)
    except Unreachable as error:
        return error


def _check_redis(settings: Settings, answer: ServerInfo | Unreachable) -> Iterator[Finding]:
    if isinstance(answer, ServerInfo):
        yield from findings.check_redis(answer, urls.redact_url(settings.broker_url))
    elif settings.redis_url is None:
        yield Finding(WARNING, "redis", "no `batchmill up` runs in this home", "to process batches, run: batchmill up")
    else:
        advice = "start it, or correct redis_url; until then work continues, but each slice starts later"
        yield Finding(PROBLEM, "redis", str(answer), advice, unreachable=True)


def _check_tables(database: Database, settings: Settings, *, is_redis_reachable: bool) -> Iterator[Finding]:
    gone_after_seconds = GONE_AFTER_LEASES * settings.lease_seconds
    yield findings.check_database(database_stats.get_server(database), urls.redact_url(settings.resolved_database_url))
    if (privileges := access.role_privileges(database)) is not None:
        yield from findings.check_role(privileges)
    worker_views = workers.list_workers(database, settings.lease_seconds)
    load_failures = blockers.list_load_failures(database)
    yield from work_findings.check_workers(worker_views)
    yield from servers.check_servers(servers.list_servers(database, settings.lease_seconds))
    yield from _check_pipelines(settings, worker_views)
    yield from work_findings.check_load_failures(load_failures)
    backlogs = database_stats.list_backlogs(database, gone_after_seconds)
    queue_depths = _queue_depths(settings, backlogs) if is_redis_reachable else {}
    needed_guards = database_stats.list_needed_guards(database)
    yield from work_findings.check_backlogs(backlogs, worker_views, queue_depths, load_failures, needed_guards)
    yield from work_findings.check_stuck_batches(database_stats.list_transitioning_batches(database))
    yield from findings.check_maintenance(database_stats.list_maintenance_tasks(database), gone_after_seconds)
    yield from findings.check_webhooks(batch_deliveries.count_undelivered(database, WEEK.total_seconds()))
    yield from upload_checks.check_uploads(database, settings)
    yield from _check_schedules(database, settings)
    yield from key_checks.check_keys(database, settings)


def _check_pipelines(settings: Settings, worker_views: Sequence[WorkerView]) -> Iterator[Finding]:
    """Report pipelines of batchmill.toml that can't work as they are written, and workers with other settings."""
    try:
        catalogue = Catalogue.load(settings)
    except SettingsError as error:
        yield Finding(PROBLEM, "pipelines", str(error), "correct it: no batch can be submitted, and no worker starts")
        return
    for problem in catalogue.unusable.values():
        if problem.is_missing:
            advice = "nothing can be submitted to it from here, and no worker here loads it; its results can be read"
            yield Finding(WARNING, "pipelines", str(problem), advice)
        else:
            advice = "correct it: nothing can be submitted to it, and no worker loads it"
            yield Finding(PROBLEM, "pipelines", str(problem), advice)
    for name in [name for name in settings.pipelines if name not in catalogue.unusable]:
        try:
            model_checks.check_model(catalogue[name], worker_views)
        except SettingsError as error:
            yield Finding(WARNING, "pipelines", str(error))
    yield from code_checks.check_logits_processors(catalogue.values())
    for pipeline in catalogue.values():
        if message := model_checks.other_settings_warning(pipeline, worker_views):
            yield Finding(WARNING, "pipelines", message)
    has_gpu = any(gpu.is_found for gpu in gpus.list_gpus())
    yield from dtype_checks.check_dtypes(catalogue.values(), settings.pipelines, worker_views, has_gpu=has_gpu)


def _check_schedules(database: Database, settings: Settings) -> Iterator[Finding]:
    now = clock.clock_for(settings, database)()
    statuses, unreadable = status.list_readable(database, now)
    for schedule in unreadable:  # another version saved it, with fields unknown here
        yield Finding(PROBLEM, "schedules", str(schedule.problem))
    yield from findings.check_schedules(statuses, events.count_undelivered(database, now - WEEK))


def _queue_depths(settings: Settings, backlogs: Iterable[Backlog]) -> dict[str, int]:
    try:
        return wakeups.queue_depths(settings, sorted({backlog.pipeline for backlog in backlogs}))
    except Unreachable:
        return {}  # Redis responded a moment ago; the next run of the doctor reports it


def _check_settings(settings: Settings) -> Iterator[Finding]:
    """Report the settings that differ from the defaults with their origin, and those that can't work."""
    file = config_file()
    location = f"{file.absolute()}" if file else "no batchmill.toml"
    changed_settings = ", ".join(_describe_changed_settings(settings, file)) or "all defaults"
    yield Finding(OK, "settings", f"{location}; {changed_settings}")
    for problem in unknown_variables(os.environ):
        yield Finding(WARNING, "settings", problem, "it has no effect: correct the name, or unset it")
    for name in settings.sources:
        try:
            sql_sources.find_sql_source(settings, name)
        except SettingsError as error:
            yield Finding(WARNING, "settings", str(error), "correct it: batches and schedules with this source fail")
    if settings.heartbeat_seconds > settings.lease_seconds / 2:
        yield Finding(
            WARNING,
            "settings",
            f"one late heartbeat is enough to lose a lease of {settings.lease_seconds:g} s",
            f"set heartbeat_seconds to at most {settings.lease_seconds / 3:.2g}",
        )


def _describe_changed_settings(settings: Settings, file: Path | None) -> Iterator[str]:
    # Tables are too long for a line, and a source's URL contains a password.
    tables = {"pipelines", "sources", "schedules", "tenants"}
    environment = {name.upper() for name in os.environ}
    for name in sorted(settings.model_fields_set - tables):
        value = str(getattr(settings, name))
        origin = "environment" if f"BATCHMILL_{name.upper()}" in environment else file or "flag"
        if name in URL_SETTINGS:
            value = urls.redact_url(value)
        elif name == "file_store":
            value = urls.redact_path(value)
        yield f"{name}={value} ({origin})"


def _exposed_paths(settings: Settings) -> list[Path]:
    database = urls.parse_database_url(settings.resolved_database_url)
    paths = [settings.home_path]
    if database.get_backend_name() == "sqlite" and database.database:
        paths.append(Path(database.database))
    return [path for path in paths if private_files.is_open_to_others(path)]


def _disk_space(settings: Settings) -> tuple[Path, int]:
    url = settings.resolved_database_url
    folder = Path(url.removeprefix("sqlite:///")).parent if url.startswith("sqlite:///") else settings.home_path
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder, shutil.disk_usage(folder).free
