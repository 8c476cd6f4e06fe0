"""Tabular layout of results: rows of typed columns for CSV, Parquet and SQL tables, which have no nested values."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from models import vectors
from models.db import Database
from models.errors import UsageError
from models.tasks.spec import TaskSpec
from producer.results import batch_columns, pages
from producer.results.result_row import ResultRow


class ColumnType(Enum):
    """The type of a column, which each file format and database maps to its own; a document is JSON text."""

    TEXT = "text"
    INTEGER = "integer"
    UUID = "uuid"
    NUMBER = "number"
    BOOLEAN = "boolean"
    TIMESTAMP = "moment"
    JSON = "document"
    VECTOR = "vector"  # float32 bytes, see `models/vectors.py`


LEADING_COLUMNS = (("position", ColumnType.INTEGER), ("custom_id", ColumnType.TEXT))
STATUS_COLUMN = ("status", ColumnType.TEXT)
GUARD_COLUMNS = (("windows", ColumnType.INTEGER), ("guards", ColumnType.JSON))
TOKEN_COLUMNS = (
    ("input_tokens", ColumnType.INTEGER),
    ("output_tokens", ColumnType.INTEGER),
    ("finish_reason", ColumnType.TEXT),
)
LATER_COLUMNS = (*GUARD_COLUMNS, *TOKEN_COLUMNS)  # a user's table may be older than these
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
    *LATER_COLUMNS,
)
ORIGIN_COLUMNS = (("source_batch_id", ColumnType.TEXT), ("source_position", ColumnType.INTEGER))
# Results had no such columns before, so an older table may have them from columns that were passed through.
RENAMED_COLUMNS = {name: f"meta_{name}" for name, _ in LATER_COLUMNS}
WHOLE_OUTPUT = (("output", ColumnType.JSON),)
VECTOR_OUTPUT = (("embedding", ColumnType.VECTOR),)
COLUMN_TYPE_BY_PYTHON_TYPE = {
    bool: ColumnType.BOOLEAN,
    int: ColumnType.INTEGER,
    float: ColumnType.NUMBER,
    str: ColumnType.TEXT,
}


@dataclass(frozen=True, slots=True)
class TabularLayout:
    """The columns of a batch's results.

    input_fields: fields of the task's input
    passthrough: columns of the source that are returned with the results
    output_columns: keys of an output with their types; None = the whole output as JSON in one column; () = unknown,
        because no job has succeeded
    hint: advice in errors about rows that do not fit
    dimensions: how many numbers each vector has; None = outputs are no vectors, or none has succeeded
    has_origins: whether the inputs are results of another batch, which columns at the end name
    """

    input_fields: tuple[str, ...]
    passthrough: tuple[str, ...]
    output_columns: tuple[tuple[str, ColumnType], ...] | None
    hint: str = "write .jsonl"
    dimensions: int | None = None
    has_origins: bool = False
    _passthrough_names: frozenset[str] = field(init=False, repr=False)
    _output_types: dict[str, ColumnType] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Built once, because they are used for every row.
        object.__setattr__(self, "_passthrough_names", frozenset(self.passthrough))
        object.__setattr__(self, "_output_types", dict(self.output_columns or ()))

    @classmethod
    def from_example(
        cls, input_fields: Iterable[str], example: Any, *, passthrough: Iterable[str] = ()
    ) -> "TabularLayout":
        """Return the layout for a task's input fields, passthrough columns, and outputs like the example.

        A flat object gets one column per key, and so does a list with one generated text. Any other output becomes one
        column of JSON.
        """
        flat = _flatten(example)
        outputs = None if flat is None else tuple((name, infer_column_type(value)) for name, value in flat.items())
        return cls(tuple(input_fields), tuple(passthrough), outputs)

    @classmethod
    def for_vectors(
        cls, input_fields: Iterable[str], dimensions: int | None, *, passthrough: Iterable[str] = ()
    ) -> "TabularLayout":
        """Return the layout for outputs that are vectors of so many numbers; None = there is no vector yet."""
        return cls(tuple(input_fields), tuple(passthrough), VECTOR_OUTPUT, dimensions=dimensions)

    def without_outputs(self) -> "TabularLayout":
        """Return the layout for results of which none has succeeded."""
        return replace(self, output_columns=(), dimensions=None)

    @property
    def output_names(self) -> list[str]:
        """The names that the columns of outputs have in `columns`."""
        first = len(LEADING_COLUMNS) + len(self.input_fields) + len(self.passthrough) + 1
        return self.column_names[first : -len(self._trailing_columns)]

    @property
    def columns(self) -> list[tuple[str, ColumnType]]:
        """Names and types; a name that is taken, in any case, gets the prefix `meta_` or `output_`."""
        inputs, outputs = self.columns_excluding(
            name for name, _ in (*LEADING_COLUMNS, STATUS_COLUMN, *self._trailing_columns)
        )
        return [*LEADING_COLUMNS, *inputs, STATUS_COLUMN, *outputs, *self._trailing_columns]

    @property
    def _trailing_columns(self) -> tuple[tuple[str, ColumnType], ...]:
        return (*TRAILING_COLUMNS, *ORIGIN_COLUMNS) if self.has_origins else TRAILING_COLUMNS

    def columns_excluding(
        self, reserved: Iterable[str]
    ) -> tuple[list[tuple[str, ColumnType]], list[tuple[str, ColumnType]]]:
        """Return the columns of inputs with passthrough, and those of outputs, for a table with the reserved names."""
        used_names = {*reserved} | {name.lower() for name in self.input_fields}
        passthrough = [(_unused_name(name, "meta_", used_names), ColumnType.TEXT) for name in self.passthrough]
        outputs = [
            (_unused_name(name, "output_", used_names), column_type)
            for name, column_type in (WHOLE_OUTPUT if self.output_columns is None else self.output_columns)
        ]
        return [*((name, ColumnType.TEXT) for name in self.input_fields), *passthrough], outputs

    @property
    def passthrough_by_name(self) -> dict[str, str]:
        """The passthrough columns by the names that they have in `columns`."""
        first = len(LEADING_COLUMNS) + len(self.input_fields)
        return dict(zip(self.column_names[first:], self.passthrough, strict=False))

    @property
    def column_names(self) -> list[str]:
        """The columns' names."""
        return [name for name, _ in self.columns]

    def row_values(self, row: ResultRow) -> list[Any]:
        """Return a row's values in the order of `columns`; raises UsageError when it does not fit."""
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
            row.content_revision,
            row.dtype,
            row.device,
            row.attempts,
            row.finished_at,
            row.windows,
            row.guards_json,
            row.input_tokens,
            row.output_tokens,
            row.finish_reason,
            *((row.source_batch_id, row.source_position) if self.has_origins else ()),
        ]

    def input_values(self, row: ResultRow) -> list[Any]:
        """Return the row's inputs and its passthrough values; raises UsageError when they do not fit."""
        values = _texts(row.input, self.input_fields)
        passthrough = row.passthrough or {}
        if not passthrough.keys() <= self._passthrough_names:
            raise UsageError(f"the row at position {row.position} has other passthrough columns; {self.hint}")
        return values + _texts(passthrough, self.passthrough)

    def output_values(self, row: ResultRow) -> list[Any]:
        """Return the row's output, by key or as JSON; raises UsageError when it does not fit."""
        if self.output_columns is None:
            return [row.output_text]
        if self.output_columns == VECTOR_OUTPUT:
            return [self._fitting_vector(row)]
        if row.output_json is None:
            return [None] * len(self.output_columns)
        output = _flatten(row.output)
        if output is None or not output.keys() <= self._output_types.keys():
            raise UsageError(f"the output at position {row.position} has other fields than the first; {self.hint}")
        return [
            value
            if COLUMN_TYPE_BY_PYTHON_TYPE.get(type(value := output.get(name))) is expected
            else self._coerce(row.position, name, expected, value)
            for name, expected in self.output_columns
        ]

    def _fitting_vector(self, row: ResultRow) -> bytes | None:
        if row.vector is None and row.output_json is None:
            return None
        if self.dimensions is None:
            raise UsageError("the first vectors of this batch came while it was read; read it again")
        count = 0 if row.vector is None else vectors.dimensions(row.vector)
        if count != self.dimensions:
            has = f"has {count:,} numbers" if count else "is no vector"
            raise UsageError(
                f"the output at position {row.position} {has}, the first has {self.dimensions:,}; {self.hint}"
            )
        return row.vector

    def _coerce(self, position: int, name: str, expected: ColumnType, value: Any) -> Any:
        if value is None:
            return value
        actual = infer_column_type(value)
        if expected is ColumnType.NUMBER and actual is ColumnType.INTEGER:  # PostgreSQL returns 1e16 without a point
            return float(value)
        types = f"{name} at position {position} is {actual.value}, in the first row it is {expected.value}"
        raise UsageError(f"{types}; {self.hint}")


def layout_for_batch(
    database: Database, batch_id: str, task: TaskSpec | None, *, has_vectors: bool = False
) -> TabularLayout:
    """Return the layout of a batch's results, from its task, its first output and its passthrough columns.

    task: None = this machine lacks it, so that the first input that was answered names the fields
    has_vectors: whether outputs are vectors, also where none has succeeded
    """
    layout = _layout_for_outputs(database, batch_id, task, has_vectors=has_vectors)
    return replace(layout, has_origins=batch_columns.has_origins(database, batch_id))


def _layout_for_outputs(
    database: Database, batch_id: str, task: TaskSpec | None, *, has_vectors: bool
) -> TabularLayout:
    passthrough = batch_columns.passthrough_columns(database, batch_id)
    first = pages.first_success(database, batch_id)
    unknown_fields = [] if first is None else list(first.input)
    fields = unknown_fields if task is None else [field.name for field in task.fields]
    if first is not None and first.vector is not None:
        return TabularLayout.for_vectors(fields, vectors.dimensions(first.vector), passthrough=passthrough)
    if first is None and has_vectors:
        return TabularLayout.for_vectors(fields, None, passthrough=passthrough)
    return TabularLayout.from_example(fields, None if first is None else first.output, passthrough=passthrough)


def infer_column_type(value: Any) -> ColumnType:
    """Return the column type for a value of an output."""
    return COLUMN_TYPE_BY_PYTHON_TYPE.get(type(value), ColumnType.TEXT)


def _flatten(output: Any) -> dict[str, Any] | None:
    """Return an output as names and plain values; None if it is nested."""
    if isinstance(output, list) and len(output) == 1 and isinstance(output[0], dict) and len(output[0]) == 1:
        [output] = output  # generation tasks return a list of texts, which usually has one
    if not isinstance(output, dict) or not output:
        return None
    for value in output.values():
        if isinstance(value, dict | list):
            return None
    return output


def _texts(document: dict[str, Any], names: tuple[str, ...]) -> list[str | None]:
    return [
        value
        if (value := document.get(name)) is None or isinstance(value, str)
        else json.dumps(value, ensure_ascii=False)
        for name in names
    ]


def describe_renamed_column(names: Iterable[str]) -> str | None:
    """Return advice, as a part of a sentence, for a table with one of these names among the user's columns."""
    for name, new_name in RENAMED_COLUMNS.items():
        if name in names:
            return f"results now have {name} themselves, so rename a column {name} of your own to {new_name}"
    return None


def _unused_name(name: str, prefix: str, used: set[str]) -> str:
    while name.lower() in used:
        name = prefix + name
    used.add(name.lower())
    return name
