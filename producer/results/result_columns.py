"""The columns of a result as the drivers return them, and the row that they make."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Generic, Protocol, TypeVar

from models.states import JobOutcome
from models.vectors import from_array_wire
from producer.results.result_row import ResultRow

# The columns of the view `job_results` with their expressions, in the order of ResultRow; a test keeps the two equal.
# Documents are read as text: decoding them costs more than all the rest.
RESULT_COLUMNS = {
    "batch_id": "r.batch_id",
    "position": "r.position",
    "custom_id": "j.custom_id",
    "input": "CAST(j.input AS TEXT)",
    "status": "r.status",
    "output": "CAST(r.output AS TEXT)",
    "error_code": "r.error_code",
    "error_message": "r.error_message",
    "truncated": "r.truncated",
    "model": "m.model",
    "revision": "m.revision",
    "dtype": "m.dtype",
    "device": "m.device",
    "attempts": "r.attempts",
    "seq": "r.seq",
    "finished_at": "r.finished_at",
    "passthrough": "CAST(j.passthrough AS TEXT)",
    "reused_from": "r.reused_from",
    "windows": "r.windows",
    "guards": "CAST(r.guards AS TEXT)",
    "original_input": "CAST(j.original_input AS TEXT)",
    "vector": "{vector}",
    "source_batch_id": "j.source_batch_id",
    "source_position": "j.source_position",
    "adapter": "m.adapter",
    "adapter_revision": "m.adapter_revision",
    "input_tokens": "r.input_tokens",
    "output_tokens": "r.output_tokens",
    "finish_reason": "r.finish_reason",
}
# PostgreSQL's text of a `real[]` takes several times as long to read.
VECTOR_COLUMN = {"postgresql": "array_send(r.vector)", "sqlite": "r.vector"}


class PlacedRow(Protocol):
    """A row of any shape, as pages see it."""

    @property
    def position(self) -> int: ...

    @property
    def seq(self) -> int: ...

    @property
    def documents_length(self) -> int: ...


Row = TypeVar("Row", bound=PlacedRow)


@dataclass(frozen=True, slots=True)
class RowShape(Generic[Row]):
    """The form in which results are read.

    columns: SQL of what is selected, by dialect
    make_row: makes a row of what the driver returns, by dialect
    """

    columns: Mapping[str, str]
    make_row: Mapping[str, Callable[[Sequence[Any]], Row]]


_STATUS_INDEX, _TRUNCATED_INDEX, _FINISHED_INDEX, _VECTOR_INDEX = (
    list(RESULT_COLUMNS).index(name) for name in ("status", "truncated", "finished_at", "vector")
)
_OUTCOME_BY_VALUE = {outcome.value: outcome for outcome in JobOutcome}


def _from_sqlite(row: Sequence[Any]) -> ResultRow:
    values = list(row)
    values[_STATUS_INDEX] = _OUTCOME_BY_VALUE[values[_STATUS_INDEX]]
    values[_TRUNCATED_INDEX] = bool(values[_TRUNCATED_INDEX])
    values[_FINISHED_INDEX] = _parse_utc(values[_FINISHED_INDEX])
    return ResultRow._make(values)


def _from_postgresql(row: Sequence[Any]) -> ResultRow:
    values = list(row)
    values[_STATUS_INDEX] = _OUTCOME_BY_VALUE[values[_STATUS_INDEX]]
    values[_FINISHED_INDEX] = values[_FINISHED_INDEX].astimezone(UTC)
    if values[_VECTOR_INDEX] is not None:
        values[_VECTOR_INDEX] = from_array_wire(values[_VECTOR_INDEX])
    return ResultRow._make(values)


@lru_cache(maxsize=64)  # the rows of a commit have one time
def _parse_utc(moment: str) -> datetime:
    return datetime.fromisoformat(moment).replace(tzinfo=UTC)


# All columns, for readers of values.
COLUMNS = RowShape(
    {dialect: ", ".join(RESULT_COLUMNS.values()).format(vector=vector) for dialect, vector in VECTOR_COLUMN.items()},
    {"postgresql": _from_postgresql, "sqlite": _from_sqlite},
)
