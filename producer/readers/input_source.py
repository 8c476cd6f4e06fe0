"""The source that options of a command or arguments of a Python program name."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Any

from models.errors import UsageError
from models.settings import Settings
from producer import readers
from producer.readers import given_names
from producer.readers.column_mapping import ColumnMapping
from producer.readers.files.source_files import FILE_FORMATS
from producer.readers.items import open_items
from producer.readers.limits import Limits
from producer.readers.results.columns import ResultColumns
from producer.readers.results.selection import ResultSelection
from producer.readers.rows import Source


def open_source(
    settings: Settings,
    columns: ColumnMapping,
    *,
    paths: Sequence[str],
    file_format: str | None,
    source_name: str | None,
    query_params: dict[str, Any],
    selection: ResultSelection | None = None,
    keep_invalid: bool = False,
) -> AbstractContextManager[Source]:
    """Return the source that the options name, not opened yet; raises UsageError unless they name exactly one.

    selection: results of another batch, for which `columns` are ResultColumns.
    keep_invalid: such results need not have the names of the columns.
    """
    if bool(paths) + (source_name is not None) + (selection is not None) != 1:
        raise UsageError("say what to submit: files, - for standard input, --sql NAME or --from BATCH_ID")
    if columns.header and not paths:
        raise given_names.names_error(given_names.ONLY_FILES)
    if selection is not None:
        if file_format is not None or query_params:
            raise UsageError("--format and --bind do not apply to the results of a batch; leave them out")
        assert isinstance(columns, ResultColumns)
        return _open_results(settings, selection, columns, keep_invalid=keep_invalid)
    if source_name is None:
        if query_params:
            raise UsageError("--bind sets a parameter of a query; name the query with --sql")
        return readers.open_source(
            paths, columns, file_format, readers.Access.from_settings(settings), Limits.from_settings(settings)
        )
    if file_format is not None:
        raise UsageError("--format applies to files, and --sql names a query")
    from producer.readers.sql import query, sql_sources

    return query.open_query(
        sql_sources.find_sql_source(settings, source_name), query_params, columns, limits=Limits.from_settings(settings)
    )


@contextmanager
def _open_results(
    settings: Settings, selection: ResultSelection, columns: ResultColumns, *, keep_invalid: bool
) -> Iterator[Source]:
    from models import schema  # a client over HTTP has no database
    from producer.readers.results.reader import open_results

    database = schema.open_database(settings, max_connections=1)
    database.close()  # the tables are checked, and results are read on a separate connection
    limits = Limits.from_settings(settings)
    with open_results(database, selection, columns, limits, keep_invalid=keep_invalid) as source:
        yield source


@dataclass(frozen=True, slots=True)
class PythonSource:
    """The arguments of `Client.submit`, of which exactly one of `inputs`, `files`, `sql` and `selection` is set."""

    inputs: Any
    ids: Any
    files: Any
    file_format: str | None
    sql: str | None
    bind: Mapping[str, Any] | None
    selection: ResultSelection | None = None
    column_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if sum(source is not None for source in (self.inputs, self.files, self.sql, self.selection)) != 1:
            raise UsageError("say what to submit: inputs, files, sql or from_batch, and only one of them")
        self._check_files()
        if self.bind and self.sql is None:
            raise UsageError("bind sets parameters of a query; name the query as sql")
        if self.ids is not None and self.inputs is None:
            raise UsageError("ids go with inputs; name the column that has the custom_ids as id_column")
        if self.bind is not None and not isinstance(self.bind, Mapping):
            raise UsageError("bind must be a mapping of the query's parameters, such as {'day': 'monday'}")
        if self.sql is not None and not isinstance(self.sql, str):
            raise UsageError("sql must be text: the NAME of a query [sources.NAME] in batchmill.toml")

    def _check_files(self) -> None:
        if self.files is None:
            if self.file_format is not None:
                raise UsageError("file_format is that of files; leave it out")
            if self.column_names is not None:
                raise given_names.names_error(given_names.ONLY_FILES)
        elif self.file_format is not None and self.file_format not in FILE_FORMATS:
            raise UsageError(f"there is no file_format {str(self.file_format)[:80]!r}; use {', '.join(FILE_FORMATS)}")

    def list_paths(self) -> list[str]:
        """The paths of the files, which may be patterns and URLs; none for another source. Raises UsageError."""
        return [] if self.files is None else _list_paths(self.files)

    def open(
        self, settings: Settings, columns: ColumnMapping, *, keep_invalid: bool = False
    ) -> AbstractContextManager[Source]:
        """Return the source, not opened yet; raises UsageError if there is none.

        keep_invalid: results of a batch need not have the names of the columns.
        """
        columns = columns.with_header(self.column_names)
        if self.inputs is not None:
            return nullcontext(open_items(self.inputs, self.ids, columns, Limits.from_settings(settings)))
        return open_source(
            settings,
            columns,
            paths=self.list_paths(),
            file_format=self.file_format,
            source_name=self.sql,
            query_params=dict(self.bind or {}),
            selection=self.selection,
            keep_invalid=keep_invalid,
        )


def _list_paths(files: Any) -> list[str]:
    """The paths of one file or of several; raises UsageError unless there is one, and all are text."""
    if isinstance(files, (bytes, Mapping)) or not isinstance(files, (str, PathLike, Iterable)):
        raise UsageError("files must be a path as text or a pathlib.Path, or a list of them")
    paths = [_path_text(path) for path in ([files] if isinstance(files, (str, PathLike)) else files)]
    if not paths:
        raise UsageError("files names no file; give at least one path")
    return paths


def _path_text(path: Any) -> str:
    text = fspath(path) if isinstance(path, (str, PathLike)) else None
    if not isinstance(text, str):
        raise UsageError("each path in files must be text or a pathlib.Path; texts to submit are inputs")
    return text
