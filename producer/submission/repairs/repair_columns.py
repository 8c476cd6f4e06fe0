"""The columns of repaired rows, which name the failed job that each row replaces."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self

from models.db import Database
from models.errors import JobError, UnreadableSource
from models.pipelines.options.prompt_template import find_batch_spec
from producer.batches import views
from producer.readers import kept_columns
from producer.readers.column_mapping import DEFAULT_ID_COLUMNS, ColumnMapping
from producer.readers.mapping_advice import COMMAND_ADVICE, MappingAdvice
from producer.readers.rows import NO_HINTS, Problem, Row
from producer.results import batch_columns
from producer.results.files import escape_formula
from producer.results.tabular import TabularLayout

POSITION_COLUMN = "position"  # as in every export of results
POSITION_TEXT = re.compile(r"\d{1,18}(?:\.0+)?", re.ASCII)  # spreadsheets and data frames append .0
NO_POSITION_MESSAGE = "names no job; keep the column position of the failed row, or the job's id"

RENAMING_ADVICE = MappingAdvice("rename one to it", "rename one to it", "rename one to it", NO_HINTS)


class _RecordParts(NamedTuple):
    """The parts of a repaired row's record, read apart because a passthrough column may be named like a field.

    job: names the job, by position or id
    input: the task's fields
    columns: passthrough columns by their names in the batch
    """

    job: dict[str, Any]
    input: dict[str, Any]
    columns: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RepairColumns(ColumnMapping):
    """The columns of repaired rows: a position or an id, the task's fields, and perhaps passthrough columns.

    A record may have the form that `batchmill errors` prints as JSON, with the fields in `input` and the columns in
    `passthrough`.

    exported_names: passthrough columns by their names in an exported table, such as `meta_status`.
    """

    exported_names: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def for_batch(
        cls,
        database: Database,
        batch_id: str,
        input_columns: Mapping[str, str] | None = None,
        id_column: str | None = None,
        *,
        advice: MappingAdvice = COMMAND_ADVICE,
    ) -> Self:
        """The mapping for a batch; raises NotFound.

        input_columns: columns by field; a field that is not named has a column of its name.
        id_column: the column of the custom_id; None = `custom_id` or `id`, if there is one.
        """
        batch = views.get_batch(database, batch_id)
        spec = find_batch_spec(batch.task, batch.parameters)
        passthrough = batch_columns.passthrough_columns(database, batch_id)
        columns = cls.for_task(spec, input_columns, id_column, advice=advice)
        layout = TabularLayout(
            tuple(field.name for field in spec.fields),
            tuple(passthrough),
            None,
            has_origins=batch_columns.has_origins(database, batch_id),
        )
        return replace(columns, passthrough=tuple(passthrough), exported_names=layout.passthrough_by_name)

    def map_row(self, location: int, record: object) -> Row:
        """The row of a record; its passthrough is a document of the position and the columns that it has."""
        if not isinstance(record, dict):
            raise JobError("invalid_row", NO_POSITION_MESSAGE)
        parts = self._split(record)
        if errors := self._missing_field_errors(parts.input):
            raise errors[0]
        columns = kept_columns.validate_passthrough(parts.columns)
        custom_id = self._custom_id(parts.job)
        position = _parse_position(parts.job.get(POSITION_COLUMN))
        if position is None and custom_id is None:
            raise JobError("invalid_row", NO_POSITION_MESSAGE)
        return Row(location, custom_id, self._raw_input(parts.input), {"position": position, "columns": columns})

    def explain_rejection(
        self, location: int, record: object, rejection: JobError, hints: Mapping[str, str] = NO_HINTS
    ) -> Problem:
        """All problems of a record that can't be mapped; nothing of it is kept, because it changes no job."""
        errors = [rejection]
        if rejection.code == "missing_field" and isinstance(record, dict):
            errors = self._missing_field_errors(self._split(record).input)
        return Problem.from_errors(location, errors, hints)

    def restore_cells(self, records: Iterable[tuple[int, dict[str, str]] | Problem]) -> Iterator[Any]:
        """The records of CSV without the `'` that an export puts before a text that a spreadsheet would run."""
        names = {escape_formula(name): name for name in self.exported_names if escape_formula(name) != name}
        for record in records:
            if isinstance(record, Problem):
                yield record
            else:
                location, cells = record
                yield location, {names.get(name, name): _unescape_formula(cell) for name, cell in cells.items()}

    def column_names(self, header: Iterable[str]) -> Iterator[str]:
        """All columns that a row may be made of, in a table with this header."""
        yield POSITION_COLUMN
        yield from ColumnMapping.column_names(self.without_passthrough(), header)
        yield from self.exported_names

    def check_header(self, source_name: str, header: Iterable[str]) -> None:
        """Raise UnreadableSource if a table's header lacks a field, or any column that names the jobs."""
        header = list(header)
        ColumnMapping.check_header(self.without_passthrough(), source_name, header)
        if POSITION_COLUMN not in header and not any(name in header for name in self.id_columns):
            raise UnreadableSource(f"{source_name} {NO_POSITION_MESSAGE}")

    def without_passthrough(self) -> ColumnMapping:
        """The mapping of the other columns."""
        return ColumnMapping(self.fields, self.id_columns, self.is_id_required, advice=self.advice)

    def keep_passthrough(self, record: object) -> dict[str, Any] | None:
        """Nothing, because an invalid row changes no job."""
        return None

    def _split(self, record: dict[str, Any]) -> _RecordParts:
        if not isinstance(record.get("input"), dict):
            columns = {name: record[key] for key, name in self.exported_names.items() if key in record}
            return _RecordParts(self._without_kept_id(record), record, columns)
        kept = record.get("passthrough") or {}
        if not isinstance(kept, dict):
            raise JobError("invalid_row", "has a passthrough that is no object; leave it out to keep the old values")
        return _RecordParts(record, record["input"], {name: kept[name] for name in self.passthrough if name in kept})

    def _without_kept_id(self, record: dict[str, Any]) -> dict[str, Any]:
        """The record without a passthrough column `id`, which an export has beside `custom_id`."""
        custom_id, kept_id = DEFAULT_ID_COLUMNS
        if self.id_columns == DEFAULT_ID_COLUMNS and custom_id in record and kept_id in self.exported_names:
            return {name: value for name, value in record.items() if name != kept_id}
        return record


def _unescape_formula(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and escape_formula(cell[1:]) == cell else cell


def _parse_position(value: object) -> int | None:
    if value is None or value == "":
        return None
    if isinstance(value, str) and POSITION_TEXT.fullmatch(value):
        return int(value.partition(".")[0])
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 10**18 and value == int(value):
        return int(value)
    raise JobError("invalid_row", "has a position that is no number from 0; copy it from the failed row")
