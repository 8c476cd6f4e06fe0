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
def opened(settings: Settings) -> Iterator[Database]:
    """The database with tables of our version; raises Unreachable, or SchemaMismatch with the command that mends it."""
    database = schema.opened(settings, connections=2)
    try:
        yield database
    finally:
        database.close()


def tell_unserved(database: Database, settings: Settings, pipeline: str, warning: str | None) -> None:
    """Say so where nobody serves the pipeline, or where the bells did not ring."""
    alive = workers.alive(database, pipeline, settings.lease_seconds)
    if not alive:
        terminal.notice(batch_tables.unserved(pipeline))
    # With the embedded Valkey and no worker, that it is away is nothing new.
    if warning and (alive or settings.redis_url is not None):
        terminal.notice(f"warning: {warning}")


def pairs(_ctx: click.Context, parameter: click.Parameter, given: Sequence[str]) -> dict[str, str]:
    """`NAME=VALUE` options as a dictionary."""
    found: dict[str, str] = {}
    for word in given:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"one is not {parameter.metavar}: it has no name and = before its value")
        if name in found:
            raise click.BadParameter(f"{name!r} is given twice")
        found[name] = value
    return found


def values(ctx: click.Context, parameter: click.Parameter, given: Sequence[str]) -> dict[str, Any]:
    """The same with each value read as JSON where it is JSON, else as text."""
    return {name: _value(text) for name, text in pairs(ctx, parameter, given).items()}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
