"""Sheets: results as rows of typed columns, for what has no nested values: CSV, Parquet and a table in SQL."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from models.db import Database
from models.errors import UsageError
from models.tasks.spec import TaskSpec
from producer.results import pages
from producer.results.pages import ResultRow


class ColumnType(Enum):
    """What a column holds; each file and database has a type for it. A document is JSON in a text."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    TIMESTAMP = "moment"
    JSON = "document"


LEADING_COLUMNS = (("position", ColumnType.INTEGER), ("custom_id", ColumnType.TEXT))
STATUS_COLUMN = ("status", ColumnType.TEXT)
TRAILING_COLUMNS = (
    ("error_code", ColumnType.TEXT),
    ("error_message", ColumnType.TEXT),
    ("truncated", ColumnType.BOOLEAN),
    ("model", ColumnType.TEXT),
    ("revision", ColumnType.TEXT),
    ("dtype", ColumnType.TEXT),
    ("device", ColumnType.TEXT),
    ("attempts", ColumnType.INTEGER),
    ("finished_at", ColumnType.TIMESTAMP),
)
WHOLE_OUTPUT = (("output", ColumnType.JSON),)


@dataclass(frozen=True, slots=True)
class TabularLayout:
    """The columns of a batch's results. `outputs` are an output's keys; None where it goes whole into one column."""

    input_fields: tuple[str, ...]
    passthrough: tuple[str, ...]
    output_columns: tuple[tuple[str, ColumnType], ...] | None
    hint: str = "write .jsonl"  # what to do where a row does not fit

    @classmethod
    def from_example(
        cls, input_fields: Iterable[str], example: Any, *, passthrough: Iterable[str] = ()
    ) -> "TabularLayout":
        """The columns for a task's input fields, for what was kept of the rows, and for outputs like this one.

        A flat object gets a column for each of its keys, and so does the one written text of a list; any other output
        becomes one column of JSON.
        """
        flat = _flatten(example)
        outputs = None if flat is None else tuple((name, infer_column_type(value)) for name, value in flat.items())
        return cls(tuple(input_fields), tuple(passthrough), outputs)

    @property
    def columns(self) -> list[tuple[str, ColumnType]]:
        """Names and kinds; a name that is taken already, in whichever case, gets `meta_` or `output_` before it."""
        given, answered = self.columns_excluding(
            name for name, _ in (*LEADING_COLUMNS, STATUS_COLUMN, *TRAILING_COLUMNS)
        )
        return [*LEADING_COLUMNS, *given, STATUS_COLUMN, *answered, *TRAILING_COLUMNS]

    def columns_excluding(
        self, reserved: Iterable[str]
    ) -> tuple[list[tuple[str, ColumnType]], list[tuple[str, ColumnType]]]:
        """The columns of what was given (inputs, meta) and of what was answered, in a table that has those others."""
        taken = {*reserved} | {name.lower() for name in self.input_fields}
        meta = [(_unused_name(name, "meta_", taken), ColumnType.TEXT) for name in self.passthrough]
        outputs = [(_unused_name(name, "output_", taken), kind) for name, kind in self.output_columns or WHOLE_OUTPUT]
        return [*((name, ColumnType.TEXT) for name in self.input_fields), *meta], outputs

    @property
    def column_names(self) -> list[str]:
        """The names."""
        return [name for name, _ in self.columns]

    def row_values(self, row: ResultRow) -> list[Any]:
        """One row, in the order of the columns and of their kinds; raises UsageError where it does not fit."""
        return [
            row.position,
            row.custom_id,
            *self.input_values(row),
            row.status.value,
            *self.output_values(row),
            row.error_code,
            row.error_message,
            row.truncated,
            row.model,
            row.revision,
            row.dtype,
            row.device,
            row.attempts,
            row.finished_at,
        ]

    def input_values(self, row: ResultRow) -> list[Any]:
        """What the row came with: its inputs, then what was kept of it."""
        kept = row.passthrough or {}
        if kept and not kept.keys() <= set(self.passthrough):
            raise UsageError(f"the row at position {row.position} has other columns of its own; {self.hint}")
        return [
            *(_to_text(row.input.get(name)) for name in self.input_fields),
            *(_to_text(kept.get(name)) for name in self.passthrough),
        ]

    def output_values(self, row: ResultRow) -> list[Any]:
        """Its output, key by key or as JSON."""
        if self.output_columns is None:
            return [None if row.output is None else json.dumps(row.output, ensure_ascii=False)]
        if row.output is None:
            return [None] * len(self.output_columns)
        output = _flatten(row.output)
        known = 0 if output is None else sum([name in output for name, _ in self.output_columns])
        if output is None or known < len(output):
            raise UsageError(f"the output at position {row.position} has other fields than the first; {self.hint}")
        return [self._coerce(row.position, name, kind, output.get(name)) for name, kind in self.output_columns]

    def _coerce(self, position: int, name: str, kind: ColumnType, value: Any) -> Any:
        found = infer_column_type(value)
        if value is None or found is kind:
            return value
        if kind is ColumnType.NUMBER and found is ColumnType.INTEGER:  # PostgreSQL gives 1e16 back without a point
            return float(value)
        said = f"{name} at position {position} is {found.value}, in the first row it is {kind.value}"
        raise UsageError(f"{said}; {self.hint}")


def layout_for_batch(database: Database, batch_id: str, task: TaskSpec) -> TabularLayout:
    """The columns of a batch: by its task, its first output, and what was kept of its first rows."""
    fields = [field.name for field in task.fields]
    return TabularLayout.from_example(
        fields, pages.first_output(database, batch_id), passthrough=pages.passthrough_columns(database, batch_id)
    )


def infer_column_type(value: Any) -> ColumnType:
    """The kind of a value of an output."""
    if isinstance(value, bool):
        return ColumnType.BOOLEAN
    if isinstance(value, int):
        return ColumnType.INTEGER
    return ColumnType.NUMBER if isinstance(value, float) else ColumnType.TEXT


def _flatten(output: Any) -> dict[str, Any] | None:
    """An output as names and plain values, where it can be had as such."""
    if isinstance(output, list) and len(output) == 1 and isinstance(output[0], dict) and len(output[0]) == 1:
        [output] = output  # what the tasks that write give: one text, in a list since there may be several
    if not isinstance(output, dict) or not output or any(isinstance(value, dict | list) for value in output.values()):
        return None
    return output


def _to_text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _unused_name(name: str, prefix: str, used: set[str]) -> str:
    while name.lower() in used:
        name = prefix + name
    used.add(name.lower())
    return name
