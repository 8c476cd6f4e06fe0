"""Arrow tables, readers and arrays, of pyarrow and of every package that has the Arrow PyCapsule interface."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from models.errors import UsageError
from producer.readers.frames.frame import Columns, Frame, portion_ranges
from producer.readers.parquet.values import iter_values

STREAM, ARRAY = "__arrow_c_stream__", "__arrow_c_array__"  # the interface's methods
VIEW_TYPES = ("string_view", "binary_view")
VIEW_BYTES = 16  # of which the first four are the length of a value


def find_frame(inputs: Any) -> Frame | None:
    """The frame of an Arrow table or array; None for anything else. Raises UsageError without pyarrow."""
    has_stream = hasattr(inputs, STREAM)
    if not has_stream and not hasattr(inputs, ARRAY):
        return None
    pyarrow = _import_pyarrow(type(inputs).__name__)
    if not has_stream:
        return _array_frame(pyarrow, pyarrow.array(inputs))
    try:
        reader = pyarrow.RecordBatchReader.from_stream(inputs)
    except pyarrow.ArrowInvalid:  # it has no columns: it is one itself
        chunks = pyarrow.chunked_array(inputs).chunks
        return Frame("the Arrow array", ("",), lambda _: _read_columns([chunk] for chunk in chunks), is_column=True)
    return _table_frame(reader.schema.names, reader)


def _array_frame(pyarrow: Any, array: Any) -> Frame:
    if pyarrow.types.is_struct(array.type):
        batch = pyarrow.RecordBatch.from_struct_array(array)
        return _table_frame(batch.schema.names, [batch])
    return Frame("the Arrow array", ("",), lambda _: _read_columns([[array]]), is_column=True)


def _table_frame(names: Sequence[str], batches: Iterable[Any]) -> Frame:
    def read(indexes: Sequence[int]) -> Iterator[Columns]:
        return _read_columns([batch.column(index) for index in indexes] for batch in batches)

    return Frame("the Arrow table", tuple(names), read)


def _read_columns(batches: Iterable[Sequence[Any]]) -> Iterator[Columns]:
    for columns in batches:
        for start, rows in portion_ranges(len(columns[0]), _size_function(columns)):
            yield [iter_values(column.slice(start, rows)) for column in columns]


def _size_function(columns: Sequence[Any]) -> Callable[[int, int], int]:
    def size_bytes(start: int, rows: int) -> int:
        return sum(_value_bytes(column.slice(start, rows)) for column in columns)

    return size_bytes


def _value_bytes(column: Any) -> int:
    """The size of a column's values, without a dictionary that they share."""
    kind = str(column.type)
    if kind.startswith("dictionary"):
        return int(column.indices.nbytes)
    if kind not in VIEW_TYPES:
        return int(column.nbytes)
    views = memoryview(column.buffers()[1])[VIEW_BYTES * column.offset :][: VIEW_BYTES * len(column)]
    return sum(views.cast("B").cast("i")[:: VIEW_BYTES // 4])


def _import_pyarrow(kind: str) -> Any:
    try:
        import pyarrow
    except ImportError:
        install = "in the checkout, run: pip install -c constraints.txt '.[parquet]'"
        raise UsageError(f"{kind} is an Arrow table, which needs pyarrow; {install}") from None
    return pyarrow
