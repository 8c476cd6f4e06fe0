"""What the commands share: the settings, the database, and the options that several of them take."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from models import schema
from models.db import Database
from models.privacy import terminal
from models.settings import Settings
from producer.batches import workers
from producer.cli.display import batch_tables

json_option = terminal.json_option


@contextmanager
def open_database(settings: Settings) -> Iterator[Database]:
    """The database with tables of our version; raises Unreachable, or SchemaMismatch with the command that mends it."""
    database = schema.open_database(settings, max_connections=2)
    try:
        yield database
    finally:
        database.close()


def warn_if_no_worker(database: Database, settings: Settings, pipeline: str, warning: str | None) -> None:
    """Say so where nobody serves the pipeline, or where the bells did not ring."""
    alive = workers.count_serving_workers(database, pipeline, settings.lease_seconds)
    if not alive:
        terminal.print_notice(batch_tables.no_worker_message(pipeline))
    # With the embedded Valkey and no worker, that it is away is nothing new.
    if warning and (alive or settings.redis_url is not None):
        terminal.print_notice(f"warning: {warning}")


def parse_pairs(_ctx: click.Context, parameter: click.Parameter, raw_values: Sequence[str]) -> dict[str, str]:
    """`NAME=VALUE` options as a dictionary."""
    found: dict[str, str] = {}
    for word in raw_values:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"one is not {parameter.metavar}: it has no name and = before its value")
        if name in found:
            raise click.BadParameter(f"{name!r} is given twice")
        found[name] = value
    return found


def parse_values(ctx: click.Context, parameter: click.Parameter, raw_values: Sequence[str]) -> dict[str, Any]:
    """The same with each value read as JSON where it is JSON, else as text."""
    return {name: _parse_value(text) for name, text in parse_pairs(ctx, parameter, raw_values).items()}


def _parse_value(raw_value: str) -> Any:
    try:
        return json.loads(raw_value)
    except (ValueError, RecursionError):
        return raw_value
