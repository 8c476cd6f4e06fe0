"""A plan says how one row group of a Parquet file is read in bounded memory; it is made from the page headers.

Arrow decompresses a page whole, and returns a batch of rows at once. Pages therefore have a size limit, a batch has as
many rows as certainly fit into its limit, and dictionary-encoded texts stay in their dictionary.
"""

from array import array
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from models.errors import UnreadableSource
from producer.readers.parquet.footer import ChunkSpan, RowGroup
from producer.readers.parquet.large_pages import LargeColumn
from producer.readers.parquet.pages import DELTA_BYTE_ARRAY, DICTIONARY_ENCODINGS, DICTIONARY_PAGE, Page, read_pages
from producer.readers.parquet.thrift import BrokenHeader

MAX_PAGE_BYTES = 4 * 2**20  # uncompressed; larger pages are not read by Arrow
MAX_HELD_BYTES = 48 * 2**20  # in the pages and dictionaries of all columns, compressed and uncompressed
MAX_WHOLE_PAGE_BYTES = 64 * 2**20  # pages read without Arrow: decompressing them whole is faster
MAX_RECORD_BATCH_BYTES = 16 * 2**20
RECORD_BATCH_ROWS = (4096, 1024, 256, 64, 16, 4, 1)
MAX_ROW_SKEW = 16  # assumed ratio of the largest rows of lists to the average

TEXT_TYPES, BINARY_TYPES = ("string", "large_string", "string_view"), ("binary", "large_binary", "binary_view")


@dataclass(frozen=True, slots=True)
class LeafColumn:
    """A physical column of the file; a column of lists or objects consists of several."""

    index: int
    column: str
    path: str
    is_byte_array: bool  # values of any length
    value_bytes: int  # the size of a value of fixed length
    is_nested: bool
    is_nullable: bool
    arrow_type: str  # the whole column's type

    @property
    def can_be_large(self) -> bool:
        """Whether its pages can be read without Arrow."""
        return self.is_byte_array and not self.is_nested and self.arrow_type in (*TEXT_TYPES, *BINARY_TYPES)


@dataclass(frozen=True, slots=True)
class RowGroupPlan:
    """How to read one row group."""

    row_count: int
    record_batch_rows: int
    dictionary_paths: tuple[str, ...]  # columns whose texts stay in their dictionary
    large_columns: tuple[LargeColumn, ...]


@dataclass(slots=True)
class _ColumnChunk:
    """A leaf column's part of a row group, as its page headers describe it."""

    leaf: LeafColumn
    start: int
    end: int
    codec: str
    page_value_counts: "array[int]" = field(default_factory=lambda: array("q"))  # one for each data page
    page_sizes: "array[int]" = field(default_factory=lambda: array("q"))  # each data page's, as Arrow holds it
    max_page_bytes: int = 0  # uncompressed
    held_bytes: int = 0  # in the largest page, compressed and uncompressed, and the dictionary
    is_dictionary_encoded: bool = False  # in all pages
    max_rebuilt_bytes: int = 0  # the limit of a value that is stored as a change of the previous one

    def max_batch_bytes(self, rows: int, group_rows: int) -> int:
        """The most bytes that this number of rows can take."""
        if not self.leaf.is_nested and not self.leaf.is_byte_array:
            return rows * self.leaf.value_bytes
        if self.max_rebuilt_bytes:
            return rows * self.max_rebuilt_bytes
        total = sum(self.page_sizes)
        if self.leaf.is_nested:  # the headers don't show where a row ends
            return min(total, total * rows * MAX_ROW_SKEW // max(group_rows, 1))
        return min(total, self._max_run_bytes(rows))

    def _max_run_bytes(self, rows: int) -> int:
        """The size of the largest run of pages that this number of rows can span."""
        max_bytes = run_bytes = run_values = end = 0
        for start, values in enumerate(self.page_value_counts):
            # In the worst case the rows begin with the last one of the run's first page.
            while end < len(self.page_value_counts) and run_values < rows - 1 + values:
                run_bytes += self.page_sizes[end]
                run_values += self.page_value_counts[end]
                end += 1
            max_bytes = max(max_bytes, run_bytes)
            run_bytes -= self.page_sizes[start]
            run_values -= values
        return max_bytes


def leaf_columns(parquet_file: Any, columns: Collection[str]) -> list[LeafColumn]:
    """The leaf columns of these columns."""
    owners = [column for column in parquet_file.schema_arrow for _ in range(_leaf_count(column.type))]
    return [
        _leaf_column(parquet_file.schema.column(index), index, column)
        for index, column in enumerate(owners)
        if column.name in columns
    ]


def _leaf_column(leaf: Any, index: int, column: Any) -> LeafColumn:
    return LeafColumn(
        index,
        column.name,
        leaf.path,
        is_byte_array=leaf.physical_type == "BYTE_ARRAY",
        value_bytes=max(8, leaf.length),
        is_nested=leaf.path != column.name or leaf.max_repetition_level > 0,
        is_nullable=leaf.max_definition_level > 0,
        arrow_type=str(column.type),
    )


def plan_row_group(
    pyarrow: Any, file: BinaryIO, source: str, row_group: RowGroup, selected: Sequence[LeafColumn]
) -> RowGroupPlan:
    """Plan a row group; raises UnreadableSource if it can't be read in bounded memory, and BrokenHeader.

    source: names the file and the row group in messages.
    """
    chunks = [_inspect_chunk(pyarrow, file, row_group.chunks[leaf.index], leaf) for leaf in selected]
    large = [chunk for chunk in chunks if chunk.max_page_bytes > MAX_PAGE_BYTES]
    small = [chunk for chunk in chunks if chunk.max_page_bytes <= MAX_PAGE_BYTES]
    small.sort(key=lambda chunk: chunk.held_bytes)
    while small and sum(chunk.held_bytes for chunk in small) > MAX_HELD_BYTES:
        large.append(small.pop())
    for chunk in large:
        if not chunk.leaf.can_be_large:
            raise UnreadableSource(_too_large_message(source, chunk))
    row_count = row_group.row_count
    dictionaries = (chunk.leaf.path for chunk in small if chunk.leaf.is_byte_array and chunk.is_dictionary_encoded)
    large_columns = (_large_column(chunk, len(large)) for chunk in large)
    return RowGroupPlan(row_count, _record_batch_rows(small, row_count), tuple(dictionaries), tuple(large_columns))


def _record_batch_rows(chunks: Sequence[_ColumnChunk], row_count: int) -> int:
    def batch_bytes(rows: int) -> int:
        return sum(chunk.max_batch_bytes(rows, row_count) for chunk in chunks)

    return next((rows for rows in RECORD_BATCH_ROWS if batch_bytes(rows) <= MAX_RECORD_BATCH_BYTES), 1)


def _inspect_chunk(pyarrow: Any, file: BinaryIO, span: ChunkSpan, leaf: LeafColumn) -> _ColumnChunk:
    if span.codec is None:
        raise BrokenHeader
    chunk = _ColumnChunk(leaf, span.start, span.end, span.codec)
    max_page_bytes, dictionary, is_encoded = 0, None, array("b")  # is_encoded: for each data page
    for page in read_pages(file, chunk.start, chunk.end):
        chunk.max_page_bytes = max(chunk.max_page_bytes, page.uncompressed_bytes)
        if page.kind == DICTIONARY_PAGE:
            dictionary = page
            continue
        max_page_bytes = max(max_page_bytes, page.compressed_bytes + page.uncompressed_bytes)
        if page.encoding == DELTA_BYTE_ARRAY:
            chunk.max_rebuilt_bytes = max(chunk.max_rebuilt_bytes, page.uncompressed_bytes)
        is_encoded.append(page.encoding in DICTIONARY_ENCODINGS)
        chunk.page_value_counts.append(page.value_count)
        chunk.page_sizes.append(page.uncompressed_bytes)
    chunk.held_bytes = max_page_bytes
    if dictionary is not None:
        chunk.held_bytes += dictionary.compressed_bytes + 2 * dictionary.uncompressed_bytes
        if leaf.is_byte_array and chunk.max_page_bytes <= MAX_PAGE_BYTES:
            _count_dictionary_values(pyarrow, file, chunk, dictionary, is_encoded)
    return chunk


def _count_dictionary_values(
    pyarrow: Any, file: BinaryIO, chunk: _ColumnChunk, dictionary: Page, is_encoded: "array[int]"
) -> None:
    """Set the sizes of dictionary-encoded pages to those that their values have in Arrow."""
    # Arrow builds a growing dictionary for values that are not in the file's, so only a chunk that has none uses one.
    chunk.is_dictionary_encoded = all(is_encoded)
    value_bytes = 8 if chunk.is_dictionary_encoded else _max_value_bytes(pyarrow, file, dictionary, chunk.codec)
    for index, encoded in enumerate(is_encoded):
        if encoded:
            chunk.page_sizes[index] = chunk.page_value_counts[index] * value_bytes


def _max_value_bytes(pyarrow: Any, file: BinaryIO, dictionary: Page, codec: str) -> int:
    """The size of a dictionary's longest value."""
    file.seek(dictionary.body_start)
    data = file.read(dictionary.compressed_bytes)
    if codec != "UNCOMPRESSED":
        name = "lz4_raw" if codec == "LZ4" else codec.lower()
        data = pyarrow.Codec(name).decompress(data, dictionary.uncompressed_bytes, asbytes=True)
    position = max_bytes = 0
    while position + 4 <= len(data):
        length = int.from_bytes(data[position : position + 4], "little")
        max_bytes = max(max_bytes, length)
        position += 4 + length
    return max_bytes


def _large_column(chunk: _ColumnChunk, column_count: int) -> LargeColumn:
    leaf = chunk.leaf
    return LargeColumn(
        leaf.column,
        chunk.start,
        chunk.end,
        chunk.codec,
        is_nullable=leaf.is_nullable,
        is_text=leaf.arrow_type in TEXT_TYPES,
        max_whole_bytes=MAX_WHOLE_PAGE_BYTES // column_count,
    )


def _too_large_message(source: str, chunk: _ColumnChunk) -> str:
    column, size, limit = chunk.leaf.column[:40], chunk.max_page_bytes / 2**20, MAX_PAGE_BYTES // 2**20
    return (
        f"{source}: the column {column!r} has pages of {size:,.0f} MiB, and those of lists, "
        f"objects and numbers may have {limit} MiB; write it again with smaller pages or row groups"
    )


def _leaf_count(arrow_type: Any) -> int:
    if arrow_type.num_fields == 0 or str(arrow_type).startswith(("dictionary", "extension")):
        return 1
    return sum(_leaf_count(arrow_type.field(index).type) for index in range(arrow_type.num_fields))
