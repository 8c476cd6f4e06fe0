"""Vectors convert between numbers, bytes, JSON and PostgreSQL's wire format."""

import json
import math
import struct

import numpy as np
import pytest

from models import vectors

NUMBERS = [0.0, -1.5, 0.1, 3.4e38, 1e-45, -0.0]


def test_numbers_become_little_endian_float32_and_come_back() -> None:
    vector = vectors.from_numbers(NUMBERS)

    assert vector == np.array(NUMBERS, "<f4").tobytes()
    assert vectors.to_numbers(vector) == np.array(NUMBERS, "<f4").tolist()
    assert vectors.dimensions(vector) == len(NUMBERS)


def test_json_tells_every_two_numbers_apart() -> None:
    numbers = np.random.default_rng(0).standard_normal(10_000).astype("<f4")
    neighbours = np.nextafter(numbers, np.float32(np.inf))

    for values in (numbers, neighbours):
        document = vectors.vector_json(values.tobytes())
        assert (np.array(json.loads(document), "<f4") == values).all()


@pytest.mark.parametrize("numbers", [[], [0.25], NUMBERS], ids=["empty", "one", "several"])
def test_the_wire_format_of_an_array_becomes_a_vector(numbers: list[float]) -> None:
    header = struct.pack(">iiIii", 1, 0, 700, len(numbers), 1) if numbers else struct.pack(">iiI", 0, 0, 700)
    wire = header + b"".join(struct.pack(">if", 4, number) for number in numbers)

    assert vectors.from_array_wire(wire) == vectors.from_numbers(numbers)


@pytest.mark.parametrize("numbers", [[0.25], NUMBERS], ids=["one", "several"])
def test_a_vector_becomes_the_wire_format_of_an_array(numbers: list[float]) -> None:
    header = struct.pack(">iiIii", 1, 0, 700, len(numbers), 1)

    wire = vectors.to_array_wire(vectors.from_numbers(numbers))

    assert wire == header + b"".join(struct.pack(">if", 4, number) for number in numbers)


@pytest.mark.parametrize(
    ("vector", "valid"),
    [
        (vectors.from_numbers(NUMBERS), True),
        (vectors.from_numbers([3.4e38] * vectors.MAX_DIMENSIONS), True),
        (vectors.from_numbers([0.0] * (vectors.MAX_DIMENSIONS + 1)), False),
        (vectors.from_numbers([1.0, math.nan]), False),
        (vectors.from_numbers([1.0, math.inf]), False),
        (vectors.from_numbers([math.inf, -math.inf]), False),
        (b"", False),
        (b"12345", False),
    ],
)
def test_a_vector_is_finite_numbers_of_a_bounded_quantity(vector: bytes, valid: bool) -> None:
    assert vectors.is_valid(vector) is valid
