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


class Kind(Enum):
    """What a column holds; each file and database has a type for it. A document is JSON in a text."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    MOMENT = "moment"
    DOCUMENT = "document"


BEFORE = (("position", Kind.INTEGER), ("custom_id", Kind.TEXT))
STATUS = ("status", Kind.TEXT)
AFTER = (
    ("error_code", Kind.TEXT), ("error_message", Kind.TEXT), ("truncated", Kind.BOOLEAN), ("model", Kind.TEXT),
    ("revision", Kind.TEXT), ("dtype", Kind.TEXT), ("device", Kind.TEXT), ("attempts", Kind.INTEGER),
    ("finished_at", Kind.MOMENT),
)  # fmt: skip
WHOLE = (("output", Kind.DOCUMENT),)


@dataclass(frozen=True, slots=True)
class Sheet:
    """The columns of a batch's results. `outputs` are an output's keys; None where it goes whole into one column."""

    inputs: tuple[str, ...]
    meta: tuple[str, ...]
    outputs: tuple[tuple[str, Kind], ...] | None
    otherwise: str = "write .jsonl"  # what to do where a row does not fit

    @classmethod
    def of(cls, inputs: Iterable[str], example: Any, *, meta: Iterable[str] = ()) -> "Sheet":
        """The columns for a task's input fields, for what was kept of the rows, and for outputs like this one.

        A flat object gets a column for each of its keys, and so does the one written text of a list; any other output
        becomes one column of JSON.
        """
        flat = _flat(example)
        outputs = None if flat is None else tuple((name, kind_of(value)) for name, value in flat.items())
        return cls(tuple(inputs), tuple(meta), outputs)

    @property
    def columns(self) -> list[tuple[str, Kind]]:
        """Names and kinds; a name that is taken already, in whichever case, gets `meta_` or `output_` before it."""
        given, answered = self.beside(name for name, _ in (*BEFORE, STATUS, *AFTER))
        return [*BEFORE, *given, STATUS, *answered, *AFTER]

    def beside(self, others: Iterable[str]) -> tuple[list[tuple[str, Kind]], list[tuple[str, Kind]]]:
        """The columns of what was given (inputs, meta) and of what was answered, in a table that has those others."""
        taken = {*others} | {name.lower() for name in self.inputs}
        meta = [(_free(name, "meta_", taken), Kind.TEXT) for name in self.meta]
        outputs = [(_free(name, "output_", taken), kind) for name, kind in self.outputs or WHOLE]
        return [*((name, Kind.TEXT) for name in self.inputs), *meta], outputs

    @property
    def header(self) -> list[str]:
        """The names."""
        return [name for name, _ in self.columns]

    def values(self, row: ResultRow) -> list[Any]:
        """One row, in the order of the columns and of their kinds; raises UsageError where it does not fit."""
        return [
            row.position, row.custom_id, *self.given(row), row.status.value, *self.answered(row), row.error_code,
            row.error_message, row.truncated, row.model, row.revision, row.dtype, row.device, row.attempts,
            row.finished_at,
        ]  # fmt: skip

    def given(self, row: ResultRow) -> list[Any]:
        """What the row came with: its inputs, then what was kept of it."""
        kept = row.meta or {}
        if kept and not kept.keys() <= set(self.meta):
            raise UsageError(f"the row at position {row.position} has other columns of its own; {self.otherwise}")
        return [*(_text(row.input.get(name)) for name in self.inputs), *(_text(kept.get(name)) for name in self.meta)]

    def answered(self, row: ResultRow) -> list[Any]:
        """Its output, key by key or as JSON."""
        if self.outputs is None:
            return [None if row.output is None else json.dumps(row.output, ensure_ascii=False)]
        if row.output is None:
            return [None] * len(self.outputs)
        output = _flat(row.output)
        known = 0 if output is None else sum([name in output for name, _ in self.outputs])
        if output is None or known < len(output):
            raise UsageError(f"the output at position {row.position} has other fields than the first; {self.otherwise}")
        return [self._fitted(row.position, name, kind, output.get(name)) for name, kind in self.outputs]

    def _fitted(self, position: int, name: str, kind: Kind, value: Any) -> Any:
        found = kind_of(value)
        if value is None or found is kind:
            return value
        if kind is Kind.NUMBER and found is Kind.INTEGER:  # PostgreSQL gives 1e16 back without a point
            return float(value)
        said = f"{name} at position {position} is {found.value}, in the first row it is {kind.value}"
        raise UsageError(f"{said}; {self.otherwise}")


def of_batch(database: Database, batch_id: str, task: TaskSpec) -> Sheet:
    """The columns of a batch: by its task, its first output, and what was kept of its first rows."""
    fields = [field.name for field in task.fields]
    return Sheet.of(fields, pages.example(database, batch_id), meta=pages.kept_columns(database, batch_id))


def kind_of(value: Any) -> Kind:
    """The kind of a value of an output."""
    if isinstance(value, bool):
        return Kind.BOOLEAN
    if isinstance(value, int):
        return Kind.INTEGER
    return Kind.NUMBER if isinstance(value, float) else Kind.TEXT


def _flat(output: Any) -> dict[str, Any] | None:
    """An output as names and plain values, where it can be had as such."""
    if isinstance(output, list) and len(output) == 1 and isinstance(output[0], dict) and len(output[0]) == 1:
        [output] = output  # what the tasks that write give: one text, in a list since there may be several
    if not isinstance(output, dict) or not output or any(isinstance(value, dict | list) for value in output.values()):
        return None
    return output


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _free(name: str, prefix: str, taken: set[str]) -> str:
    while name.lower() in taken:
        name = prefix + name
    taken.add(name.lower())
    return name
