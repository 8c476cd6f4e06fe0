"""Vectors: float32 numbers as little-endian bytes, the form in which workers, SQLite and files hold them. Pure.

PostgreSQL has them as `real[]`, whose wire format is other bytes. NumPy reads one by `numpy.frombuffer(vector, "<f4")`.
"""

import sys
from array import array
from collections.abc import Sequence
from math import isfinite
from struct import Struct

NUMBER_BYTES = 4
MAX_DIMENSIONS = 16_000  # the most that pgvector stores

# An array on PostgreSQL's wire: dimensions, whether it has NULLs, type of its elements, length, first index.
_ARRAY_HEADER = Struct(">iiIii")
_REAL_TYPE = 700
_LENGTH_AND_NUMBER = 2  # each element is its length in bytes and itself, four bytes each
_ZERO_ELEMENT = bytes((0, 0, 0, NUMBER_BYTES, 0, 0, 0, 0))


def from_numbers(numbers: Sequence[float]) -> bytes:
    """Return the vector of these numbers, rounded to float32."""
    return _swap_on_big_endian(array("f", numbers)).tobytes()


def to_numbers(vector: bytes) -> list[float]:
    """Return the numbers of a vector."""
    return _to_array(vector).tolist()


def dimensions(vector: bytes) -> int:
    """Return how many numbers a vector has."""
    return len(vector) // NUMBER_BYTES


def is_valid(vector: bytes) -> bool:
    """Whether these bytes are one to MAX_DIMENSIONS finite numbers."""
    if len(vector) % NUMBER_BYTES or not 1 <= dimensions(vector) <= MAX_DIMENSIONS:
        return False
    return isfinite(sum(_to_array(vector)))  # float64, so that the sum of finite numbers is finite


def vector_json(vector: bytes) -> str:
    """Return the vector as a JSON list; nine digits tell every two float32 numbers apart."""
    numbers = to_numbers(vector)
    return f"[{','.join(['%.9g'] * len(numbers)) % tuple(numbers)}]"


def to_array_wire(vector: bytes) -> bytes:
    """Return the bytes that PostgreSQL receives for a `real[]`; the vector is not empty."""
    numbers = array("I", vector)
    numbers.byteswap()
    elements = array("I", _ZERO_ELEMENT * len(numbers))
    elements[1::_LENGTH_AND_NUMBER] = numbers
    return _ARRAY_HEADER.pack(1, 0, _REAL_TYPE, len(numbers), 1) + elements.tobytes()


def from_array_wire(wire: bytes) -> bytes:
    """Return the vector that PostgreSQL's `array_send` gave for a `real[]` of one dimension without NULLs."""
    if len(wire) < _ARRAY_HEADER.size:
        return b""  # an empty array has no dimension
    elements = array("I", wire[_ARRAY_HEADER.size :])[1::_LENGTH_AND_NUMBER]
    elements.byteswap()
    return elements.tobytes()


def _to_array(vector: bytes) -> "array[float]":
    return _swap_on_big_endian(array("f", vector))


def _swap_on_big_endian(numbers: "array[float]") -> "array[float]":
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
