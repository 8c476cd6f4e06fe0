"""Helpers that commands share: opening the database, warnings, and parsers of options."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from models import schema
from models.db import Database
from models.pipelines.catalogue import Catalogue
from models.privacy import terminal
from models.settings import Settings
from producer.batches import blockers
from producer.workers import model_checks, workers

json_option = terminal.json_option


def limit_option(what: str, *, most: int, default: int) -> Callable[[Any], Any]:
    """Return the option `--limit` of a command that lists `what`."""
    return click.option(
        "--limit",
        "-n",
        type=click.IntRange(min=1, max=most),
        metavar="N",
        default=default,
        show_default=True,
        help=f"At most so many {what}.",
    )


@contextmanager
def open_database(settings: Settings) -> Iterator[Database]:
    """Open the database for a block; raises Unreachable, or SchemaMismatch with the command that fixes it."""
    database = schema.open_database(settings, max_connections=2)
    try:
        yield database
    finally:
        database.close()


def print_worker_warnings(database: Database, settings: Settings, pipeline: str, warning: str | None) -> None:
    """Print a notice if no worker serves the pipeline or some have other settings, or if wakeups could not be sent."""
    worker_views = workers.list_workers(database, settings.lease_seconds)
    alive = any(worker.alive and pipeline in worker.served_pipelines for worker in worker_views)
    if not alive:
        up = blockers.find_up(settings.home_path)  # it may just have started
        terminal.print_notice(blockers.no_worker_message(pipeline, up))
    elif pipeline in (catalogue := Catalogue.load(settings)):
        mismatch = model_checks.other_settings_warning(catalogue[pipeline], worker_views)
        if mismatch:
            terminal.print_notice(f"warning: {mismatch}")
    # The embedded Valkey runs with `batchmill up`, so without a worker it is expected to be unreachable.
    if warning and (alive or settings.redis_url is not None):
        terminal.print_notice(f"warning: {warning}")


def parse_pairs(_ctx: click.Context, parameter: click.Parameter, raw_values: Sequence[str]) -> dict[str, str]:
    """Parse repeated `NAME=VALUE` options into a dictionary."""
    pairs: dict[str, str] = {}
    for raw_value in raw_values:
        name, equals, value = raw_value.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"a value is not {parameter.metavar}: write a name, =, and what it stands for")
        if name in pairs:
            raise click.BadParameter(f"{name!r} is given twice")
        pairs[name] = value
    return pairs


def parse_values(ctx: click.Context, parameter: click.Parameter, raw_values: Sequence[str]) -> dict[str, Any]:
    """Parse repeated `NAME=VALUE` options, with each value as JSON if it is valid JSON, else as text."""
    return {name: _parse_value(text) for name, text in parse_pairs(ctx, parameter, raw_values).items()}


def _parse_value(raw_value: str) -> Any:
    try:
        return json.loads(raw_value)
    except (ValueError, RecursionError):
        return raw_value
