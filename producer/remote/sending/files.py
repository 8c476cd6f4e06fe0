"""Files of this machine as the body of a submission: one as it is, several as JSON lines."""

from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from models import tasks
from models.errors import InvalidRows
from producer import readers
from producer.readers.column_mapping import WHOLE_ROW, ColumnMapping
from producer.readers.files.source_files import find_files
from producer.readers.input_source import PythonSource
from producer.readers.rows import Problem, Row, Source
from producer.remote.sending import inputs
from producer.remote.sending.columns import FindFields, map_columns
from producer.remote.sending.encoding import RecordEncoder
from producer.submission.options import SubmitOptions

MAX_PROBLEMS = 20  # listed in an error


@dataclass(frozen=True, slots=True)
class FileBody:
    """What to send.

    name: of the source, for messages
    file_format: one of FILE_FORMATS
    restate: makes a sentence of a line's number and what is wrong with it
    column_names: of a table without a header, for the server to read
    """

    file: BinaryIO
    name: str
    file_format: str
    restate: Callable[[int, str], str]
    column_names: tuple[str, ...] | None = None


@contextmanager
def open_files(source: PythonSource, options: SubmitOptions, find_fields: FindFields) -> Iterator[FileBody]:
    """Yield the body that the files make; raises UnreadableSource.

    find_fields: asks the server for the pipeline's
    """
    paths, file_format = source.list_paths(), source.file_format
    found = find_files(paths, file_format)
    if len(found) == 1:
        file = found[0]
        unit = "row" if file.file_format == "parquet" else "line"
        with file.access.open_file(file.path) as stream:
            restate = _restate_by(unit)
            yield FileBody(stream, file.name, file.file_format, restate, source.column_names)
        return
    columns = _whole_records(options, find_fields).with_header(source.column_names)
    with readers.open_source(paths, columns, file_format) as rows, inputs.spool() as spooled:
        restate = _write_rows(spooled, rows, columns, keeps_invalid=options.on_invalid != "reject")
        yield FileBody(spooled, rows.name, "jsonl", restate)


def _restate_by(unit: str) -> Callable[[int, str], str]:
    return lambda number, message: f"{unit} {number}: {message}"


def _write_rows(
    file: BinaryIO, source: Source, columns: ColumnMapping, *, keeps_invalid: bool
) -> Callable[[int, str], str]:
    """Write the rows of several files as lines, and return what restates the problem of a line; raises InvalidRows."""
    encoder = RecordEncoder(columns.id_columns, frozenset(column for _, column, _ in columns.fields))
    locations, problems = array("q"), []  # eight bytes for each row, so that its file can be named
    for row in source.rows:
        if isinstance(row, Problem) and not keeps_invalid:
            problems.append(f"{source.describe_location(row.location)}: {row.message}")
            if len(problems) >= MAX_PROBLEMS:
                break
        else:
            record = {WHOLE_ROW: row.raw_input} if isinstance(row, Problem) else row.raw_input
            locations.append(row.location)
            file.write(encoder.encode(len(locations), record))
    if problems:
        raise InvalidRows(source.name, problems)

    def place_of(number: int) -> str:
        return source.describe_location(locations[number - 1]) if 0 < number <= len(locations) else f"line {number}"

    return lambda number, message: encoder.restate(number, message, place_of)


class _WholeRecords(ColumnMapping):
    """Takes each record as it is; a table's header is checked, and its rows by the server."""

    def map_row(self, location: int, record: object) -> Row:
        """The record itself."""
        return Row(location, None, record)


def _whole_records(options: SubmitOptions, find_fields: FindFields) -> ColumnMapping:
    fields = find_fields()
    columns = map_columns(options, _optional_fields() if fields is None else fields, use_ids=True)
    return _WholeRecords(
        columns.fields,
        columns.id_columns,
        columns.is_id_required,
        columns.passthrough,
        keeps_all=True,
        advice=columns.advice,
    )


def _optional_fields() -> tuple[tuple[str, bool], ...]:
    """The fields that no task of ours requires: an empty cell means that they were left out."""
    required = {field.name for spec in tasks.TASKS.values() for field in spec.fields if field.required}
    optional = {field.name for spec in tasks.TASKS.values() for field in spec.fields if not field.required}
    return tuple((name, False) for name in sorted(optional - required))
