"""A frame is a table of a Python program, whatever package it is from; a column by itself is a frame too."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

# Python's objects take more memory than a frame's columns, so only so many rows are taken out at once.
PORTION_ROWS = 1024
PORTION_BYTES = 4 * 2**20

Columns = list[Iterable[object]]  # the values of some columns, which are equally long
SizeBytes = Callable[[int, int], int]  # of the values in a frame's rows from the first number on, as many as the second


class ArrowStream(Protocol):
    """A table or array of several chunks, by the Arrow PyCapsule interface; pandas and polars have it too."""

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any: ...


class ArrowArray(Protocol):
    """A record batch or array, by the same interface."""

    def __arrow_c_array__(self, requested_schema: Any = None) -> Any: ...


class LazyTable(Protocol):
    """A LazyFrame of polars."""

    def collect_schema(self) -> Any: ...


Table = ArrowStream | ArrowArray | LazyTable


@dataclass(frozen=True, slots=True)
class Frame:
    """A table that can be read.

    name: for messages
    header: the names of its columns; a name that is no text stands there as text
    read: yields the columns at these indexes, portion by portion
    is_column: whether it is one column without a name that matters
    """

    name: str
    header: tuple[str, ...]
    read: Callable[[Sequence[int]], Iterator[Columns]]
    is_column: bool = False


def find_package(inputs: object, name: str) -> Any:
    """The package of this name, if the inputs are an object of one of its classes; else None.

    Looking only for the package would find one that another thread has half imported.
    """
    modules = (kind.__module__ for kind in type(inputs).__mro__)
    return sys.modules[name] if any(module.partition(".")[0] == name for module in modules) else None


def portion_ranges(row_count: int, size_bytes: SizeBytes) -> Iterator[tuple[int, int]]:
    """The first row and the number of rows of each portion of a frame."""
    start = 0
    while start < row_count:
        rows = min(PORTION_ROWS, row_count - start)
        while rows > 1 and size_bytes(start, rows) > PORTION_BYTES:
            rows //= 2
        yield start, rows
        start += rows
