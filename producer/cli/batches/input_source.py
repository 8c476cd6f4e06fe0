"""Which source a command reads: files, standard input, or an operator's query."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from models.errors import UsageError
from models.settings import Settings
from producer import readers
from producer.readers.limits import Limits
from producer.readers.rows import Columns, Source
from producer.readers.sql import sql_sources


def chosen(
    settings: Settings, columns: Columns, *, paths: Sequence[str], kind: str | None, sql: str | None,
    bound: dict[str, Any],
) -> AbstractContextManager[Source]:  # fmt: skip
    """The source that the options name, to be opened; raises UsageError where they name none, or several."""
    if bool(paths) == (sql is not None):
        raise UsageError("say what to submit: files, - for standard input, or --sql NAME")
    if sql is None:
        if bound:
            raise UsageError("--bind gives a parameter to a query; name that with --sql")
        return readers.opened(paths, columns, kind, readers.Access.of(settings), Limits.of(settings))
    if kind is not None:
        raise UsageError("--format is of files, and --sql names a query")
    from producer.readers.sql import query

    return query.opened(sql_sources.find(settings, sql), bound, columns, limits=Limits.of(settings))
