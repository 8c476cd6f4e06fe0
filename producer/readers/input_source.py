"""The source that options name: files, standard input, or an operator's query."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from models.errors import UsageError
from models.settings import Settings
from producer import readers
from producer.readers.limits import Limits
from producer.readers.rows import ColumnMapping, Source
from producer.readers.sql import sql_sources


def open_source(
    settings: Settings,
    columns: ColumnMapping,
    *,
    paths: Sequence[str],
    file_format: str | None,
    source_name: str | None,
    query_params: dict[str, Any],
) -> AbstractContextManager[Source]:
    """Return the source that the options name, not opened yet; raises UsageError unless they name exactly one."""
    if bool(paths) == (source_name is not None):
        raise UsageError("say what to submit: files, - for standard input, or --sql NAME")
    if source_name is None:
        if query_params:
            raise UsageError("--bind sets a parameter of a query; name the query with --sql")
        return readers.open_source(
            paths, columns, file_format, readers.Access.from_settings(settings), Limits.from_settings(settings)
        )
    if file_format is not None:
        raise UsageError("--format applies to files, and --sql names a query")
    from producer.readers.sql import query

    return query.open_query(
        sql_sources.find_sql_source(settings, source_name), query_params, columns, limits=Limits.from_settings(settings)
    )
