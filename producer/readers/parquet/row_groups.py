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
from producer.readers.parquet.pages import DELTA_BYTE_ARRAY, DICTIONARY_ENCODINGS, DICTIONARY_PAGE, Page, read_pages

MAX_PAGE_BYTES = 4 * 2**20  # bytes, unpacked; such as are larger are read apart
MAX_HELD_BYTES = 48 * 2**20  # in the pages and dictionaries of all columns, packed and unpacked
MAX_WHOLE_PAGE_BYTES = 64 * 2**20  # of pages that are read apart: unpacked whole is quicker
MAX_RECORD_BATCH_BYTES = 16 * 2**20
RECORD_BATCH_ROWS = (4096, 1024, 256, 64, 16, 4, 1)
MAX_ROW_SKEW = 16  # how many times larger than others some rows of lists may be

TEXT_TYPES, BINARY_TYPES = ("string", "large_string", "string_view"), ("binary", "large_binary", "binary_view")


@dataclass(frozen=True, slots=True)
class LeafColumn:
    """A column of values as the file has it, of which a column of lists or objects has several."""

    index: int
    column: str
    path: str
    is_byte_array: bool  # of whatever length
    value_bytes: int  # in bytes, of values of one length
    is_nested: bool
    is_nullable: bool
    arrow_type: str  # Arrow's type of its column

    @property
    def can_be_large(self) -> bool:
        """Whether its pages can be read apart."""
        return self.is_byte_array and not self.is_nested and self.arrow_type in (*TEXT_TYPES, *BINARY_TYPES)


@dataclass(frozen=True, slots=True)
class RowGroupPlan:
    """How to read one row group."""

    row_count: int
    record_batch_rows: int
    dictionary_paths: tuple[str, ...]  # paths of texts that stay in their dictionary
    large_columns: tuple[LargeColumn, ...]


@dataclass(slots=True)
class _ColumnChunk:
    """What the headers tell of one leaf's part of a row group."""

    leaf: LeafColumn
    start: int
    end: int
    codec: str
    page_value_counts: "array[int]" = field(default_factory=lambda: array("q"))  # in each page of data
    page_sizes: "array[int]" = field(default_factory=lambda: array("q"))  # that these take as Arrow has them
    max_page_bytes: int = 0  # bytes of a page, unpacked
    held_bytes: int = 0  # bytes of the largest page, packed and unpacked, and of the dictionary
    is_dictionary_encoded: bool = False  # all of it
    max_rebuilt_bytes: int = 0  # bytes that one value may take, where it is written as a change of the one before

    def max_batch_bytes(self, rows: int, group_rows: int) -> int:
        """How many bytes so many rows take at the most."""
        if not self.leaf.is_nested and not self.leaf.is_byte_array:
            return rows * self.leaf.value_bytes
        if self.max_rebuilt_bytes:
            return rows * self.max_rebuilt_bytes
        whole = sum(self.page_sizes)
        if self.leaf.is_nested:  # the headers don't tell where a row ends
            return min(whole, whole * rows * MAX_ROW_SKEW // max(group_rows, 1))
        return min(whole, self._max_run_bytes(rows))

    def _max_run_bytes(self, rows: int) -> int:
        """The bytes of the largest pages that so many rows may lie in."""
        largest = total = past = covered = 0
        for first, values in enumerate(self.page_value_counts):
            # The run begins with the last row of its first page.
            while past < len(self.page_value_counts) and covered < rows - 1 + values:
                total += self.page_sizes[past]
                covered += self.page_value_counts[past]
                past += 1
            largest = max(largest, total)
            total -= self.page_sizes[first]
            covered -= values
        return largest


def leaf_columns(parquet_file: Any, columns: Sequence[str]) -> list[LeafColumn]:
    """The leaves of some columns of a file that pyarrow has opened."""
    schema, found = parquet_file.schema, []
    index = 0
    for column in parquet_file.schema_arrow:
        for _ in range(_leaf_count(column.type)):
            if column.name in columns:
                leaf = schema.column(index)
                found.append(
                    LeafColumn(
                        index,
                        column.name,
                        leaf.path,
                        leaf.physical_type == "BYTE_ARRAY",
                        max(8, leaf.length),
                        leaf.path != column.name or leaf.max_repetition_level > 0,
                        leaf.max_definition_level > 0,
                        str(column.type),
                    )
                )
            index += 1
    return found


def plan_row_group(
    pyarrow: Any, file: BinaryIO, name: str, metadata: Any, group_index: int, selected: Sequence[LeafColumn]
) -> RowGroupPlan:
    """How to read a row group; raises UnreadableSource where it can't be read in bounded memory, and BrokenHeader."""
    about = metadata.row_group(group_index)
    chunks = [_inspect_chunk(pyarrow, file, about.column(leaf.index), leaf) for leaf in selected]
    large = [chunk for chunk in chunks if chunk.max_page_bytes > MAX_PAGE_BYTES]
    small = sorted(
        (chunk for chunk in chunks if chunk.max_page_bytes <= MAX_PAGE_BYTES), key=lambda chunk: chunk.held_bytes
    )
    while small and sum(chunk.held_bytes for chunk in small) > MAX_HELD_BYTES:
        large.append(small.pop())
    for chunk in large:
        if not chunk.leaf.can_be_large:
            raise UnreadableSource(_too_large_message(name, group_index, chunk))
    at_once = next(
        (
            rows
            for rows in RECORD_BATCH_ROWS
            if sum(one.max_batch_bytes(rows, about.num_rows) for one in small) <= MAX_RECORD_BATCH_BYTES
        ),
        1,
    )
    kept = tuple(chunk.leaf.path for chunk in small if chunk.leaf.is_byte_array and chunk.is_dictionary_encoded)
    return RowGroupPlan(about.num_rows, at_once, kept, tuple(_large_column(chunk, len(large)) for chunk in large))


def _inspect_chunk(pyarrow: Any, file: BinaryIO, chunk_metadata: Any, leaf: LeafColumn) -> _ColumnChunk:
    start = chunk_metadata.data_page_offset
    if chunk_metadata.has_dictionary_page and chunk_metadata.dictionary_page_offset is not None:
        start = min(start, chunk_metadata.dictionary_page_offset)
    chunk = _ColumnChunk(leaf, start, start + chunk_metadata.total_compressed_size, chunk_metadata.compression)
    page_bytes, dictionary, named = 0, None, array("b")
    for page in read_pages(file, chunk.start, chunk.end):
        chunk.max_page_bytes = max(chunk.max_page_bytes, page.uncompressed_bytes)
        if page.kind == DICTIONARY_PAGE:
            dictionary = page
            continue
        page_bytes = max(page_bytes, page.compressed_bytes + page.uncompressed_bytes)
        if page.encoding == DELTA_BYTE_ARRAY:
            chunk.max_rebuilt_bytes = max(chunk.max_rebuilt_bytes, page.uncompressed_bytes)
        named.append(page.encoding in DICTIONARY_ENCODINGS)
        chunk.page_value_counts.append(page.value_count)
        chunk.page_sizes.append(page.uncompressed_bytes)
    chunk.held_bytes = page_bytes + (
        0 if dictionary is None else dictionary.compressed_bytes + 2 * dictionary.uncompressed_bytes
    )
    if dictionary is not None and leaf.is_byte_array and chunk.max_page_bytes <= MAX_PAGE_BYTES:
        # Arrow keeps a dictionary of its own over values that the file has not in one, and that grows.
        chunk.is_dictionary_encoded = all(named)
        longest = (
            8
            if chunk.is_dictionary_encoded
            else _max_value_bytes(pyarrow, file, dictionary, chunk_metadata.compression)
        )
        for place in range(len(named)):
            if named[place]:
                chunk.page_sizes[place] = chunk.page_value_counts[place] * longest
    return chunk


def _max_value_bytes(pyarrow: Any, file: BinaryIO, dictionary: Page, codec: str) -> int:
    """The bytes of a dictionary's longest value."""
    file.seek(dictionary.body_start)
    data = file.read(dictionary.compressed_bytes)
    if codec != "UNCOMPRESSED":
        name = "lz4_raw" if codec == "LZ4" else codec.lower()
        data = pyarrow.Codec(name).decompress(data, dictionary.uncompressed_bytes, asbytes=True)
    place = longest = 0
    while place + 4 <= len(data):
        length = int.from_bytes(data[place : place + 4], "little")
        longest = max(longest, length)
        place += 4 + length
    return longest


def _large_column(chunk: _ColumnChunk, column_count: int) -> LargeColumn:
    leaf = chunk.leaf
    return LargeColumn(
        leaf.column,
        chunk.start,
        chunk.end,
        chunk.codec,
        leaf.is_nullable,
        leaf.arrow_type in TEXT_TYPES,
        MAX_WHOLE_PAGE_BYTES // column_count,
    )


def _too_large_message(name: str, group_index: int, chunk: _ColumnChunk) -> str:
    column, most = chunk.leaf.column[:40], MAX_PAGE_BYTES // 2**20
    return (
        f"{name}, row group {group_index + 1}: the column {column!r} has pages of "
        f"{chunk.max_page_bytes / 2**20:,.0f} MiB, and of "
        f"lists, objects and numbers at most {most} MiB are read; write it again with smaller pages, or row groups"
    )


def _leaf_count(arrow_type: Any) -> int:
    if arrow_type.num_fields == 0 or str(arrow_type).startswith(("dictionary", "extension")):
        return 1
    return sum(map(_leaf_count, _child_types(arrow_type)))


def _child_types(arrow_type: Any) -> Iterator[Any]:
    for place in range(arrow_type.num_fields):
        yield arrow_type.field(place).type
