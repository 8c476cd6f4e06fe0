"""Token ids as C integers: a ninth of the memory of a list, and joined or cut without an object for each token."""

from array import array
from collections.abc import Iterable

TokenArray = array  # of unsigned C ints


def token_array(ids: Iterable[int]) -> "TokenArray[int]":
    """Return the ids as an array; unsigned, because Python fills such arrays from a list twice as fast."""
    return array("I", ids)


def token_array_from_bytes(data: bytes) -> "TokenArray[int]":
    """Return the array with these C ints."""
    return array("I", data)
