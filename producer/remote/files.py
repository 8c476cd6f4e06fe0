"""Files of this machine as the body of a submission: one as it is, several as JSON lines."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from models import tasks
from models.errors import InvalidRows
from producer import readers
from producer.readers.files import find_files
from producer.readers.rows import WHOLE_ROW, ColumnMapping, Problem, Row
from producer.remote import inputs
from producer.submission.options import SubmitOptions

MAX_PROBLEMS = 20  # listed in an error


@dataclass(frozen=True, slots=True)
class FileBody:
    """What to send.

    name: of the source, for messages
    file_format: one of FILE_FORMATS
    """

    file: BinaryIO
    name: str
    file_format: str


@contextmanager
def open_files(paths: Sequence[str], file_format: str | None, options: SubmitOptions) -> Iterator[FileBody]:
    """Yield the body that the files make; raises UnreadableSource."""
    found = find_files(paths, file_format)
    if len(found) == 1:
        file = found[0]
        with file.access.open_file(file.path) as stream:
            yield FileBody(stream, file.name, file.file_format)
        return
    with readers.open_source(paths, _whole_records(options), file_format) as source, inputs.spool() as spooled:
        keep_invalid, problems = options.on_invalid != "reject", []
        for row in source.rows:
            if isinstance(row, Problem) and not keep_invalid:
                problems.append(f"{source.describe_location(row.location)}: {row.message}")
                if len(problems) >= MAX_PROBLEMS:
                    break
            else:
                spooled.write(inputs.encode({WHOLE_ROW: row.raw_input} if isinstance(row, Problem) else row.raw_input))
        if problems:
            raise InvalidRows(source.name, problems)
        yield FileBody(spooled, source.name, "jsonl")


class _WholeRecords(ColumnMapping):
    """Takes each record as it is, because only the server knows the pipeline's fields."""

    def map_row(self, location: int, record: object) -> Row:
        """The record itself."""
        return Row(location, None, record)


def _whole_records(options: SubmitOptions) -> ColumnMapping:
    named = options.input_columns or {}
    # An empty cell of an optional field means that it was left out.
    optional = {field.name for spec in tasks.TASKS.values() for field in spec.fields if not field.required}
    required = {field.name for spec in tasks.TASKS.values() for field in spec.fields if field.required}
    fields: tuple[tuple[str, Any, bool], ...] = tuple(
        (name, named.get(name, name), False) for name in sorted(optional - required)
    )
    return _WholeRecords(fields, (), is_id_required=False, keeps_all=True)
