"""Chunking groups items up to a total size. Pure."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def split_into_chunks(
    items: Iterable[Item], size_of: Callable[[Item], int], max_size: int, max_items: float = math.inf
) -> Iterator[list[Item]]:
    """Yield the items in order, in chunks of at most `max_size` and `max_items`; a larger item comes alone."""
    chunk: list[Item] = []
    chunk_size = 0
    for item in items:
        item_size = size_of(item)
        if chunk and (chunk_size + item_size > max_size or len(chunk) == max_items):
            yield chunk
            chunk, chunk_size = [], 0
        chunk.append(item)
        chunk_size += item_size
    if chunk:
        yield chunk
