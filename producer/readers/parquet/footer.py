"""The footer of a Parquet file says where the column chunks of each row group lie.

It is read here, because pyarrow ends the process when it returns the metadata of some damaged column chunks. The
fields' numbers are those of https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from producer.readers.parquet.thrift import LIST, STRUCT, BrokenHeader, CompactReader

PARQUET_MAGIC = b"PAR1"
TAIL_BYTES = 4 + len(PARQUET_MAGIC)  # the footer's length, and the magic number
MAX_FOOTER_BYTES = 16 * 2**20  # its parsed form takes some ten times as much memory

# Arrow's names, by the numbers of the format.
CODECS = ("UNCOMPRESSED", "SNAPPY", "GZIP", "LZO", "BROTLI", "LZ4_HADOOP", "ZSTD", "LZ4")

ROW_GROUPS, COLUMNS, ROW_COUNT, CHUNK_METADATA = 4, 1, 3, 3
CODEC, COMPRESSED_BYTES, DATA_OFFSET, DICTIONARY_OFFSET = 4, 7, 9, 11


@dataclass(frozen=True, slots=True)
class ChunkSpan:
    """Where a column chunk lies in the file.

    codec: its compression; None = not one of the format.
    """

    start: int
    end: int
    codec: str | None


@dataclass(frozen=True, slots=True)
class RowGroup:
    """A row group, with the chunks of the selected leaf columns by their index."""

    row_count: int
    chunks: Mapping[int, ChunkSpan]


def footer_bytes(file: BinaryIO) -> int:
    """The footer's size as the file's end states it; 0 if the file doesn't end as Parquet does.

    A size beyond the file's is that of a file which was cut off or is something else.
    """
    end = file.seek(0, 2)
    file.seek(max(end - TAIL_BYTES, 0))
    size = int.from_bytes(file.read(4), "little")
    return size if file.read(4) == PARQUET_MAGIC and size <= end - TAIL_BYTES else 0


def read_row_groups(file: BinaryIO, leaf_indexes: Collection[int]) -> list[RowGroup]:
    """The row groups of a file whose footer has at most MAX_FOOTER_BYTES; raises BrokenHeader."""
    size = footer_bytes(file)
    file.seek(-TAIL_BYTES - size, 2)
    reader = CompactReader(file.read(size))
    row_groups: list[RowGroup] = []
    try:
        for number, kind in reader.iter_fields():
            if (number, kind) == (ROW_GROUPS, LIST):
                row_groups = [_read_row_group(reader, leaf_indexes) for _ in range(_count_structs(reader))]
            else:
                reader.read_value(kind)
    except (IndexError, KeyError, TypeError):
        raise BrokenHeader from None
    return row_groups


def _read_row_group(reader: CompactReader, leaf_indexes: Collection[int]) -> RowGroup:
    row_count, chunks = 0, {}
    for number, kind in reader.iter_fields():
        if (number, kind) == (COLUMNS, LIST):
            for index in range(_count_structs(reader)):
                chunk = reader.read_struct()
                if index in leaf_indexes:
                    chunks[index] = _chunk_span(chunk[CHUNK_METADATA])
        elif number == ROW_COUNT:
            row_count = reader.read_value(kind)
        else:
            reader.read_value(kind)
    if row_count < 0 or len(chunks) < len(leaf_indexes):
        raise BrokenHeader
    return RowGroup(row_count, chunks)


def _chunk_span(metadata: Mapping[int, int]) -> ChunkSpan:
    # Some writers state 0 if there is no dictionary.
    start = min(metadata[DATA_OFFSET], metadata.get(DICTIONARY_OFFSET) or metadata[DATA_OFFSET])
    codec = metadata[CODEC]
    if start < 0 or metadata[COMPRESSED_BYTES] < 0:
        raise BrokenHeader
    return ChunkSpan(start, start + metadata[COMPRESSED_BYTES], CODECS[codec] if 0 <= codec < len(CODECS) else None)


def _count_structs(reader: CompactReader) -> int:
    count, kind = reader.read_list_header()
    if kind != STRUCT:
        raise BrokenHeader
    return count
