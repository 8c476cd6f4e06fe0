"""Frames of pandas, with missing values as null and NumPy's values as Python's.

pandas has NaN, NA, NaT and None for a missing value, and writes all of them as null to Parquet.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

from producer.readers.frames.frame import Columns, Frame, find_package, portion_ranges
from producer.readers.frames.plain_values import plain_value
from producer.readers.parquet.large_pages import NOT_UTF8_VALUE
from producer.readers.storable import UnreadableValue

PLAIN_KINDS = "iub"  # of NumPy's types: integers and booleans, which have no missing values

GetValues = Callable[[int, int], Any]  # a Series or Index of the rows from the first number on


def find_frame(inputs: Any, index_names: Collection[str]) -> Frame | None:
    """The frame of a DataFrame, a Series or an Index of pandas; None for anything else.

    index_names: levels of the index that are columns too, if they have one of these names
    """
    pandas = find_package(inputs, "pandas")
    if pandas is None:
        return None
    if isinstance(inputs, pandas.Index):
        inputs = inputs.to_series()
    if isinstance(inputs, pandas.Series):
        return Frame("the Series", (str(inputs.name),), _reader(len(inputs), [_part_of(inputs)]), is_column=True)
    if not isinstance(inputs, pandas.DataFrame):
        return None
    names = [str(name) for name in inputs.columns]
    columns = [_column_part(inputs, position) for position in range(len(names))]
    for level, name in enumerate(inputs.index.names):
        if name is not None and (text := str(name)) in index_names and text not in names:
            names.append(text)
            columns.append(_index_part(inputs, level))
    return Frame("the DataFrame", tuple(names), _reader(len(inputs), columns))


def _part_of(series: Any) -> GetValues:
    return lambda start, rows: series.iloc[start : start + rows]


def _column_part(frame: Any, position: int) -> GetValues:
    return lambda start, rows: frame.iloc[start : start + rows, position]


def _index_part(frame: Any, level: int) -> GetValues:
    return lambda start, rows: frame.index[start : start + rows].get_level_values(level)


def _reader(row_count: int, columns: Sequence[GetValues]) -> Callable[[Sequence[int]], Iterator[Columns]]:
    def read(indexes: Sequence[int]) -> Iterator[Columns]:
        selected = [columns[index] for index in indexes]

        def size_bytes(start: int, rows: int) -> int:
            return sum(get_values(start, rows).nbytes for get_values in selected)

        for start, rows in portion_ranges(row_count, size_bytes):
            yield [_values(get_values(start, rows)) for get_values in selected]

    return read


def _values(part: Any) -> Iterable[object]:
    if part.dtype.kind in PLAIN_KINDS and type(part.dtype).__module__.startswith("numpy"):
        return part.tolist()  # type: ignore[no-any-return]
    try:
        return map(plain_value, part.tolist())
    except MemoryError:
        raise
    except Exception:  # a value that Python can't hold, such as a time past the year 9999: find out which
        return [_single_value(part[row : row + 1]) for row in range(len(part))]


def _single_value(part: Any) -> object:
    try:
        return plain_value(part.tolist()[0])
    except MemoryError:
        raise
    except UnicodeDecodeError:
        return NOT_UTF8_VALUE
    except Exception as error:
        return UnreadableValue(f"has a value that Python can't hold ({type(error).__name__}); make the column text")
