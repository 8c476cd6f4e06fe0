"""Frames of polars, and lazy ones, which are computed while they are read."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from producer.readers.frames.frame import PORTION_ROWS, Columns, Frame, find_package, portion_ranges
from producer.readers.parquet.values import nanosecond_text
from producer.readers.storable import UnreadableValue


def find_frame(inputs: Any) -> Frame | None:
    """The frame of a DataFrame, a LazyFrame or a Series of polars; None for anything else."""
    polars = find_package(inputs, "polars")
    if polars is None:
        return None
    if isinstance(inputs, polars.Series):
        frame = inputs.to_frame()
        return Frame("the Series", (inputs.name,), lambda indexes: _read_parts([frame], indexes), is_column=True)
    if isinstance(inputs, polars.DataFrame):
        return Frame("the DataFrame", tuple(inputs.columns), lambda indexes: _read_parts([inputs], indexes))
    if isinstance(inputs, polars.LazyFrame):
        header = tuple(inputs.collect_schema().names())
        return Frame("the LazyFrame", header, lambda indexes: _read_lazy(inputs, header, indexes))
    return None


def _read_lazy(lazy: Any, header: Sequence[str], indexes: Sequence[int]) -> Iterator[Columns]:
    selected = lazy.select([header[index] for index in indexes])
    if hasattr(lazy, "collect_batches"):
        parts = selected.collect_batches(chunk_size=PORTION_ROWS, maintain_order=True)
    else:
        parts = [selected.collect()]
    return _read_parts(parts, range(len(indexes)))


def _read_parts(parts: Iterable[Any], indexes: Sequence[int]) -> Iterator[Columns]:
    for part in parts:
        columns = [part.to_series(index) for index in indexes]
        for start, rows in portion_ranges(part.height, _size_function(columns)):
            yield [_values(column.slice(start, rows)) for column in columns]


def _size_function(columns: Sequence[Any]) -> Callable[[int, int], int]:
    def size_bytes(start: int, rows: int) -> int:
        return sum(_text_bytes(column.slice(start, rows)) for column in columns)

    return size_bytes


def _text_bytes(series: Any) -> int:
    """The size of a column's values as Python has them, at most."""
    polars = sys.modules["polars"]
    if series.dtype not in (polars.Categorical, polars.Enum):
        return int(series.estimated_size())
    longest = series.unique().cast(polars.String).str.len_bytes().max()
    return len(series) * int(longest or 1)


def _values(series: Any) -> Iterable[object]:
    polars = sys.modules["polars"]
    if series.dtype.base_type() is polars.Datetime and series.dtype.time_unit == "ns":
        return _nanosecond_values(series)
    try:
        return series.to_list()  # type: ignore[no-any-return]
    except MemoryError:
        raise
    except Exception:  # a value that Python can't hold, such as a time past the year 9999: find out which
        return [_single_value(series.slice(row, 1)) for row in range(len(series))]


def _single_value(series: Any) -> object:
    try:
        return series.to_list()[0]
    except MemoryError:
        raise
    except Exception as error:
        return UnreadableValue(f"has a value that Python can't hold ({type(error).__name__}); make the column text")


def _nanosecond_values(series: Any) -> Iterator[object]:
    """Times as Python has them; as ISO 8601 where they have nanoseconds, which Python has not."""
    for time, nanoseconds in zip(series.to_list(), series.to_physical().to_list(), strict=True):
        yield time if time is None or nanoseconds % 1000 == 0 else nanosecond_text(time, nanoseconds % 1000)
