"""Vectors as one matrix, which NumPy reads as its own."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy
import pytest

from models.errors import UsageError
from producer.results import files
from producer.results.formats import npy
from producer.results.result_row import ResultRow
from tests.factories.result_rows import FAILED_FIELDS, result_row, vector_row


def read(rows: Sequence[ResultRow], row_count: int, dimensions: int = 2) -> Any:
    file = BytesIO()
    npy.write(file, rows, row_count, dimensions)
    return numpy.load(BytesIO(file.getvalue()), allow_pickle=False)


def test_row_i_is_position_i_and_nan_without_a_vector(tmp_path: Path) -> None:
    rows = [vector_row(1, [0.1, -2.0]), result_row(2, **FAILED_FIELDS), vector_row(4, [1e-30, 3.0])]

    assert files.write_npy(tmp_path / "vectors.npy", rows, 6, 2) == 2

    matrix = numpy.load(tmp_path / "vectors.npy", mmap_mode="r", allow_pickle=False)
    assert (matrix.dtype, matrix.shape) == (numpy.dtype("<f4"), (6, 2))
    assert numpy.isnan(matrix).all(axis=1).tolist() == [True, False, True, True, False, True]
    assert matrix[[1, 4]].tobytes() == numpy.array([[0.1, -2.0], [1e-30, 3.0]], "<f4").tobytes()


def test_rows_that_came_later_are_left_out() -> None:
    assert read([vector_row(0, [1.0, 2.0]), vector_row(1, [3.0, 4.0])], row_count=1).tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize(("row_count", "dimensions"), [(0, 1), (1, 384), (10**9, 16_000), (123_456_789, 3072)])
def test_the_numbers_begin_where_numpy_expects_them(row_count: int, dimensions: int) -> None:
    header = npy.header(row_count, dimensions)

    file = BytesIO(header)
    assert numpy.lib.format.read_magic(file) == (1, 0)
    assert numpy.lib.format.read_array_header_1_0(file) == ((row_count, dimensions), False, numpy.dtype("<f4"))
    assert file.tell() == len(header)
    assert len(header) % 64 == 0


def test_the_bytes_are_those_of_numpy() -> None:
    expected = BytesIO()
    numpy.save(expected, numpy.array([[0.5, -2.0], [1.5, 3.0]], "<f4"))
    file = BytesIO()

    npy.write(file, [vector_row(0, [0.5, -2.0]), vector_row(1, [1.5, 3.0])], 2, 2)

    assert file.getvalue() == expected.getvalue()


def test_vectors_of_two_lengths_are_an_error() -> None:
    with pytest.raises(UsageError, match="position 1 has 1 numbers, the first has 2; write"):
        read([vector_row(0, [1.0, 2.0]), vector_row(1, [3.0])], row_count=2)
