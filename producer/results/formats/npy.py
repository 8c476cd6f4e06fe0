"""NumPy's file format for the vectors of a batch: one matrix of float32, whose row i is the job at position i.

The format is written by hand, because producers need no NumPy:
https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

import math
import struct
from collections.abc import Iterable, Iterator
from typing import IO

from models import vectors
from models.errors import UsageError
from producer.results.result_row import ResultRow

MAGIC = b"\x93NUMPY\x01\x00"  # with the format's version 1.0
HEADER_LENGTH = struct.Struct("<H")
ALIGNMENT = 64  # of the numbers, so that the file can be mapped into memory


def write(file: IO[bytes], rows: Iterable[ResultRow], row_count: int, dimensions: int) -> int:
    """Write the matrix as `iter_parts` has it, and return how many rows have a vector."""
    vector_count = 0

    def counted() -> Iterator[ResultRow]:
        nonlocal vector_count
        for row in rows:
            vector_count += row.vector is not None and row.position < row_count
            yield row

    for part in iter_parts(counted(), row_count, dimensions):
        file.write(part)
    return vector_count


def iter_parts(rows: Iterable[ResultRow], row_count: int, dimensions: int) -> Iterator[bytes]:
    """Yield the header, and the matrix row by row; rows without a vector are NaN.

    rows: results in the order of their positions; those from `row_count` on are left out
    row_count: the number of jobs
    dimensions: how many numbers each vector has

    Raises UsageError for an output that is no vector of this length.
    """
    yield header(row_count, dimensions)
    missing = struct.pack("<f", math.nan) * dimensions
    next_position = 0
    for row in rows:
        if row.position >= row_count:  # added while its batch was read
            break
        for _ in range(next_position, row.position):
            yield missing
        if row.vector is not None and len(row.vector) != len(missing):
            raise UsageError(
                f"the vector at position {row.position} has {vectors.dimensions(row.vector):,} numbers, the first has "
                f"{dimensions:,}; write .jsonl"
            )
        yield row.vector or missing
        next_position = row.position + 1
    for _ in range(next_position, row_count):
        yield missing


def header(row_count: int, dimensions: int) -> bytes:
    """Return what stands before the numbers."""
    description = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({row_count}, {dimensions}), }}"
    start = len(MAGIC) + HEADER_LENGTH.size
    length = math.ceil((start + len(description) + 1) / ALIGNMENT) * ALIGNMENT - start
    return MAGIC + HEADER_LENGTH.pack(length) + description.ljust(length - 1).encode("ascii") + b"\n"
