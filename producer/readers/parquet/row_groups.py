"""Row groups: how one of a Parquet file is read in bounded memory, planned by the headers of its pages.

Arrow unpacks a page whole, and gives a batch of rows in full. So each page has a bound, a batch has as many rows as are
small enough together whatever stands where, and texts that a dictionary has are not written out.
"""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from models.errors import UnreadableSource
from producer.readers.parquet.large_pages import LargeColumn
from producer.readers.parquet.pages import BY_DICTIONARY, DELTA_STRINGS, DICTIONARY, Page, pages

LARGEST_PAGE = 4 * 2**20  # bytes, unpacked; such as are larger are read apart
MOST_HELD_BYTES = 48 * 2**20  # in the pages and dictionaries of all columns, packed and unpacked
MOST_WHOLE_BYTES = 64 * 2**20  # of pages that are read apart: unpacked whole is quicker
BATCH_BYTES = 16 * 2**20
BATCH_ROWS = (4096, 1024, 256, 64, 16, 4, 1)
UNEVEN = 16  # how many times larger than others some rows of lists may be

TEXTS, BYTES = ("string", "large_string", "string_view"), ("binary", "large_binary", "binary_view")


@dataclass(frozen=True, slots=True)
class Leaf:
    """A column of values as the file has it, of which a column of lists or objects has several."""

    index: int
    column: str
    path: str
    is_bytes: bool  # of whatever length
    width: int  # in bytes, of values of one length
    is_nested: bool
    is_nullable: bool
    kind: str  # Arrow's type of its column

    @property
    def can_be_large(self) -> bool:
        """Whether its pages can be read apart."""
        return self.is_bytes and not self.is_nested and self.kind in (*TEXTS, *BYTES)


@dataclass(frozen=True, slots=True)
class Plan:
    """How to read one row group."""

    rows: int
    rows_at_once: int
    dictionaries: tuple[str, ...]  # paths of texts that stay in their dictionary
    large: tuple[LargeColumn, ...]


@dataclass(slots=True)
class _Chunk:
    """What the headers tell of one leaf's part of a row group."""

    leaf: Leaf
    start: int
    end: int
    codec: str
    values: "array[int]" = field(default_factory=lambda: array("q"))  # in each page of data
    bytes: "array[int]" = field(default_factory=lambda: array("q"))  # that these take as Arrow has them
    largest: int = 0  # bytes of a page, unpacked
    held: int = 0  # bytes of the largest page, packed and unpacked, and of the dictionary
    is_by_dictionary: bool = False  # all of it
    rebuilds: int = 0  # bytes that one value may take, where it is written as a change of the one before

    def batch_bytes(self, rows: int, all_rows: int) -> int:
        """How many bytes so many rows take at the most."""
        if not self.leaf.is_nested and not self.leaf.is_bytes:
            return rows * self.leaf.width
        if self.rebuilds:
            return rows * self.rebuilds
        whole = sum(self.bytes)
        if self.leaf.is_nested:  # the headers don't tell where a row ends
            return min(whole, whole * rows * UNEVEN // max(all_rows, 1))
        return min(whole, self._largest_run(rows))

    def _largest_run(self, rows: int) -> int:
        """The bytes of the largest pages that so many rows may lie in."""
        largest = total = past = covered = 0
        for first, values in enumerate(self.values):
            # The run begins with the last row of its first page.
            while past < len(self.values) and covered < rows - 1 + values:
                total += self.bytes[past]
                covered += self.values[past]
                past += 1
            largest = max(largest, total)
            total -= self.bytes[first]
            covered -= values
        return largest


def leaves(table: Any, columns: Sequence[str]) -> list[Leaf]:
    """The leaves of some columns of a file that pyarrow has opened."""
    schema, found = table.schema, []
    index = 0
    for column in table.schema_arrow:
        for _ in range(_leaf_count(column.type)):
            if column.name in columns:
                leaf = schema.column(index)
                found.append(
                    Leaf(
                        index, column.name, leaf.path, leaf.physical_type == "BYTE_ARRAY", max(8, leaf.length),
                        leaf.path != column.name or leaf.max_repetition_level > 0, leaf.max_definition_level > 0,
                        str(column.type),
                    )
                )  # fmt: skip
            index += 1
    return found


def plan(pyarrow: Any, file: BinaryIO, name: str, metadata: Any, group: int, wanted: Sequence[Leaf]) -> Plan:
    """How to read a row group; raises UnreadableSource where it can't be read in bounded memory, and BrokenHeader."""
    about = metadata.row_group(group)
    chunks = [_chunk(pyarrow, file, about.column(leaf.index), leaf) for leaf in wanted]
    large = [chunk for chunk in chunks if chunk.largest > LARGEST_PAGE]
    small = sorted((chunk for chunk in chunks if chunk.largest <= LARGEST_PAGE), key=lambda chunk: chunk.held)
    while small and sum(chunk.held for chunk in small) > MOST_HELD_BYTES:
        large.append(small.pop())
    for chunk in large:
        if not chunk.leaf.can_be_large:
            raise UnreadableSource(_too_large(name, group, chunk))
    at_once = next(
        (rows for rows in BATCH_ROWS if sum(one.batch_bytes(rows, about.num_rows) for one in small) <= BATCH_BYTES), 1
    )
    kept = tuple(chunk.leaf.path for chunk in small if chunk.leaf.is_bytes and chunk.is_by_dictionary)
    return Plan(about.num_rows, at_once, kept, tuple(_read_apart(chunk, len(large)) for chunk in large))


def _chunk(pyarrow: Any, file: BinaryIO, about: Any, leaf: Leaf) -> _Chunk:
    start = about.data_page_offset
    if about.has_dictionary_page and about.dictionary_page_offset is not None:
        start = min(start, about.dictionary_page_offset)
    chunk = _Chunk(leaf, start, start + about.total_compressed_size, about.compression)
    page_bytes, dictionary, named = 0, None, array("b")
    for page in pages(file, chunk.start, chunk.end):
        chunk.largest = max(chunk.largest, page.unpacked)
        if page.kind == DICTIONARY:
            dictionary = page
            continue
        page_bytes = max(page_bytes, page.packed + page.unpacked)
        if page.encoding == DELTA_STRINGS:
            chunk.rebuilds = max(chunk.rebuilds, page.unpacked)
        named.append(page.encoding in BY_DICTIONARY)
        chunk.values.append(page.values)
        chunk.bytes.append(page.unpacked)
    chunk.held = page_bytes + (0 if dictionary is None else dictionary.packed + 2 * dictionary.unpacked)
    if dictionary is not None and leaf.is_bytes and chunk.largest <= LARGEST_PAGE:
        # Arrow keeps a dictionary of its own over values that the file has not in one, and that grows.
        chunk.is_by_dictionary = all(named)
        longest = 8 if chunk.is_by_dictionary else _longest(pyarrow, file, dictionary, about.compression)
        for place in range(len(named)):
            if named[place]:
                chunk.bytes[place] = chunk.values[place] * longest
    return chunk


def _longest(pyarrow: Any, file: BinaryIO, dictionary: Page, codec: str) -> int:
    """The bytes of a dictionary's longest value."""
    file.seek(dictionary.start)
    data = file.read(dictionary.packed)
    if codec != "UNCOMPRESSED":
        name = "lz4_raw" if codec == "LZ4" else codec.lower()
        data = pyarrow.Codec(name).decompress(data, dictionary.unpacked, asbytes=True)
    place = longest = 0
    while place + 4 <= len(data):
        length = int.from_bytes(data[place : place + 4], "little")
        longest = max(longest, length)
        place += 4 + length
    return longest


def _read_apart(chunk: _Chunk, columns: int) -> LargeColumn:
    leaf = chunk.leaf
    return LargeColumn(
        leaf.column, chunk.start, chunk.end, chunk.codec, leaf.is_nullable, leaf.kind in TEXTS,
        MOST_WHOLE_BYTES // columns
    )  # fmt: skip


def _too_large(name: str, group: int, chunk: _Chunk) -> str:
    column, most = chunk.leaf.column[:40], LARGEST_PAGE // 2**20
    return (
        f"{name}, row group {group + 1}: the column {column!r} has pages of {chunk.largest / 2**20:,.0f} MiB, and of "
        f"lists, objects and numbers at most {most} MiB are read; write it again with smaller pages, or row groups"
    )


def _leaf_count(kind: Any) -> int:
    if kind.num_fields == 0 or str(kind).startswith(("dictionary", "extension")):
        return 1
    return sum(map(_leaf_count, _children(kind)))


def _children(kind: Any) -> Iterator[Any]:
    for place in range(kind.num_fields):
        yield kind.field(place).type
