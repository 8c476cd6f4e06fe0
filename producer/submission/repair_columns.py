"""The columns of repaired rows, which name the failed job that each row replaces."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from models import tasks
from models.db import Database
from models.errors import JobError, UnreadableSource
from producer.batches import views
from producer.readers import kept_columns
from producer.readers.rows import ColumnMapping, Row
from producer.results import pages

POSITION_COLUMN = "position"  # as in every export of results
POSITION_TEXT = re.compile(r"\d{1,18}(?:\.0+)?", re.ASCII)  # spreadsheets and data frames append .0
NO_POSITION_MESSAGE = "names no job; keep the column position that `batchmill errors` writes, or the job's id"


@dataclass(frozen=True, slots=True)
class RepairColumns(ColumnMapping):
    """The columns of repaired rows: a position or an id, the task's fields, and perhaps passthrough columns.

    A record may have the form that `batchmill errors` prints as JSON, with the fields in `input`.
    """

    @classmethod
    def for_batch(
        cls, database: Database, batch_id: str, input_columns: Mapping[str, str], id_column: str | None
    ) -> Self:
        """The mapping for a batch; raises NotFound.

        input_columns: columns by field; a field that is not named has a column of its name.
        id_column: the column of the custom_id; None = `custom_id` or `id`, if there is one.
        """
        spec = tasks.find_spec(views.get_batch(database, batch_id).task)
        passthrough = pages.passthrough_columns(database, batch_id)
        return cls.for_task(spec, input_columns, id_column, passthrough=passthrough)

    def map_row(self, location: int, record: object) -> Row:
        """The row of a record; its passthrough is a document of the position and the columns that it has."""
        if not isinstance(record, dict):
            raise JobError("invalid_row", NO_POSITION_MESSAGE)
        if isinstance(record.get("input"), dict):
            record = {**record, **record["input"], **(record.get("passthrough") or {})}
        row = ColumnMapping.map_row(self, location, record)
        position = _parse_position(record.get(POSITION_COLUMN))
        if position is None and row.custom_id is None:
            raise JobError("invalid_row", NO_POSITION_MESSAGE)
        return row._replace(passthrough={"position": position, "columns": row.passthrough})

    def column_names(self, header: Iterable[str]) -> Iterator[str]:
        """All columns that a row may be made of, in a table with this header."""
        yield POSITION_COLUMN
        yield from ColumnMapping.column_names(self, header)

    def check_header(self, source_name: str, header: Iterable[str]) -> None:
        """Raise UnreadableSource if a table's header lacks a field, or any column that names the jobs."""
        header = list(header)
        ColumnMapping.check_header(self.without_passthrough(), source_name, header)
        if POSITION_COLUMN not in header and not any(name in header for name in self.id_columns):
            raise UnreadableSource(f"{source_name} {NO_POSITION_MESSAGE}")

    def without_passthrough(self) -> ColumnMapping:
        """The mapping of the other columns."""
        return ColumnMapping(self.fields, self.id_columns, self.is_id_required)

    def keep_passthrough(self, record: object) -> dict[str, Any] | None:
        """Nothing, because an invalid row changes no job."""
        return None

    def _passthrough_values(self, record: dict[str, Any]) -> dict[str, Any]:
        return kept_columns.validate_passthrough({name: record[name] for name in self.passthrough if name in record})

    def _missing_passthrough_errors(self, record: dict[str, Any]) -> list[JobError]:
        return []

    def _bare_value_errors(self) -> list[JobError]:
        return []


def _parse_position(value: object) -> int | None:
    if value is None or value == "":
        return None
    if isinstance(value, str) and POSITION_TEXT.fullmatch(value):
        return int(value.partition(".")[0])
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 10**18 and value == int(value):
        return int(value)
    raise JobError("invalid_row", "has a position that is no number from 0; copy it from `batchmill errors`")
