"""A frame's rows as items, for `readers/items.py`."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from models.errors import BatchmillError, UnreadableSource, UsageError
from producer.readers.column_mapping import DEFAULT_ID_COLUMNS, ColumnMapping, check_unique
from producer.readers.frames import arrow_frames, numpy_arrays, pandas_frames, polars_frames
from producer.readers.frames.frame import Frame


def find_frame(inputs: Any, index_names: Collection[str] = ()) -> Frame | None:
    """The frame that inputs are; None for other inputs. Raises UsageError for a table of an unknown kind.

    index_names: levels of a pandas index that are columns too, if they have one of these names
    """
    try:
        frame = (
            pandas_frames.find_frame(inputs, index_names)
            or polars_frames.find_frame(inputs)
            or arrow_frames.find_frame(inputs)
            or numpy_arrays.find_frame(inputs)
        )
    except (BatchmillError, MemoryError):
        raise
    except Exception as error:
        raise UnreadableSource(f"the {type(inputs).__name__} can't be read ({type(error).__name__})") from error
    if frame is None and hasattr(inputs, "columns") and hasattr(inputs, "dtypes"):
        kind = f"{type(inputs).__module__.partition('.')[0]}.{type(inputs).__name__}"
        raise UsageError(f"{kind} is not a table that can be read; make a pandas, polars or Arrow table of it")
    return frame


def index_columns(columns: ColumnMapping) -> set[str]:
    """The columns of a mapping that a pandas index may have: those that are named, and no default for the id."""
    names = set(columns.column_names(()))
    return names if columns.is_id_required else names - set(DEFAULT_ID_COLUMNS)


def iter_items(frame: Frame, columns: ColumnMapping) -> Iterator[object]:
    """The rows of a frame: objects with the mapped columns, or the bare values of an only column.

    Raises UnreadableSource at once if columns are missing, and while reading if the frame can't be computed.
    """
    if _is_bare(frame, columns):
        field_column = columns.fields[0][1]
        columns.check_header(frame.name, [field_column])
        return ({field_column: None} if value is None else value for value in _read_values(frame))
    check_unique(frame.name, frame.header)
    columns.check_header(frame.name, frame.header)
    wanted = set(columns.column_names(frame.header))
    return _iter_records(frame, [index for index, name in enumerate(frame.header) if name in wanted])


def iter_ids(frame: Frame) -> Iterator[object]:
    """The custom_ids in a frame's only column; raises UsageError if it has several."""
    if len(frame.header) != 1:
        raise UsageError(f"ids is a table of {len(frame.header)} columns; give one of them, such as table['id']")
    return _read_values(frame)


def _is_bare(frame: Frame, columns: ColumnMapping) -> bool:
    """Whether the frame has one column that is the input, whatever its name, because nothing else can be meant."""
    if len(frame.header) != 1 or sum(is_required for _, _, is_required in columns.fields) > 1:
        return False
    has_default_names = all(field == column for field, column, _ in columns.fields)
    return frame.is_column or (has_default_names and frame.header[0] not in columns.column_names(()))


def _read_values(frame: Frame) -> Iterator[object]:
    return (value for [values] in _read(frame, [0]) for value in values)


def _iter_records(frame: Frame, indexes: Sequence[int]) -> Iterator[dict[str, object]]:
    names = [frame.header[index] for index in indexes]
    for portion in _read(frame, indexes):
        for values in zip(*portion, strict=True):
            yield dict(zip(names, values, strict=True))


def _read(frame: Frame, indexes: Sequence[int]) -> Iterator[list[Iterable[object]]]:
    """The frame's portions; a lazy one is computed only now, and may fail."""
    try:
        yield from frame.read(indexes)
    except (BatchmillError, MemoryError):
        raise
    except Exception as error:
        raise UnreadableSource(f"{frame.name} can't be read any further ({type(error).__name__})") from error
