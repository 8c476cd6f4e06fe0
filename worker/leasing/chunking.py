"""Chunking: items go together as long as they are small enough together. Pure."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def split_into_chunks(
    items: Iterable[Item], size_of: Callable[[Item], int], max_size: int, max_items: float = math.inf
) -> Iterator[list[Item]]:
    """The items in order, in chunks of `max_size` in all and `max_items` at most; a larger item comes alone."""
    chunk: list[Item] = []
    held = 0
    for item in items:
        item_size = size_of(item)
        if chunk and (held + item_size > max_size or len(chunk) == max_items):
            yield chunk
            chunk, held = [], 0
        chunk.append(item)
        held += item_size
    if chunk:
        yield chunk
