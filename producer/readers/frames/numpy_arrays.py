"""Arrays of NumPy with one dimension, such as a column's `.values` in pandas."""

from collections.abc import Iterator, Sequence
from typing import Any

from models.errors import UsageError
from producer.readers.frames.frame import Columns, Frame, find_package, portion_ranges
from producer.readers.frames.plain_values import plain_value


def find_frame(inputs: Any) -> Frame | None:
    """The frame of an array; None for anything else. Raises UsageError for an array of several dimensions."""
    numpy = find_package(inputs, "numpy")
    if numpy is None or not isinstance(inputs, numpy.ndarray):
        return None
    if inputs.ndim != 1:
        raise UsageError(f"an array of {inputs.ndim} dimensions is no list of inputs; give one of one dimension")

    def read(_: Sequence[int]) -> Iterator[Columns]:
        for start, rows in portion_ranges(len(inputs), lambda _, rows: rows * inputs.itemsize):
            yield [map(plain_value, inputs[start : start + rows].tolist())]

    return Frame("the array", ("",), read, is_column=True)
