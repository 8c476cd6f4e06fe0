import importlib
import io
import random
from typing import Any

import pytest

from producer.readers.parquet import decompression
from producer.readers.parquet.decompression import BrokenBlock, ByteStream, FileSpan, decompress

pyarrow: Any = pytest.importorskip("pyarrow")
importlib.import_module("pyarrow")

CODECS = {"SNAPPY": "snappy", "LZ4": "lz4_raw", "GZIP": "gzip", "ZSTD": "zstd", "BROTLI": "brotli"}
RANDOM = random.Random(7)
CONTENTS = {
    "nothing": b"",
    "a byte": b"a",
    "one byte many times": b"a" * 900_000,
    "random bytes": RANDOM.randbytes(900_000),
    "a short pattern": b"abc" * 300_000,
    "words": b" ".join(RANDOM.choices([b"good", b"bad", b"excellent", b"terrible"], k=60_000)),
    "both": RANDOM.randbytes(100_000) + b"x" * 500_000 + RANDOM.randbytes(70_000) * 3,
}


def stream(compressed: bytes, codec: str, size: int, max_whole_bytes: int = 0) -> ByteStream:
    before = b"before"
    return decompress(
        FileSpan(io.BytesIO(before + compressed + b"after"), len(before), len(compressed)),
        codec,
        pyarrow,
        size,
        max_whole_bytes,
    )


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
@pytest.mark.parametrize("codec", [*CODECS, "UNCOMPRESSED"])
@pytest.mark.parametrize("max_whole_bytes", [0, 2**22])
def test_content_is_restored(codec: str, content: bytes, max_whole_bytes: int) -> None:
    compressed = content if codec == "UNCOMPRESSED" else pyarrow.Codec(CODECS[codec]).compress(content, asbytes=True)
    content_stream = stream(compressed, codec, len(content), max_whole_bytes)

    half = len(content) // 2
    assert content_stream.read_exactly(half) == content[:half]
    content_stream.skip(len(content) // 4)
    rest = content[half + len(content) // 4 :]
    assert content_stream.read_exactly(len(rest)) == rest
    with pytest.raises(BrokenBlock):
        content_stream.read_exactly(1)


@pytest.mark.parametrize("codec", CODECS)
def test_a_truncated_block_is_broken(codec: str) -> None:
    content = CONTENTS["words"]
    compressed = pyarrow.Codec(CODECS[codec]).compress(content, asbytes=True)

    with pytest.raises((BrokenBlock, OSError)):
        stream(compressed[: len(compressed) // 2], codec, len(content)).read_exactly(len(content))


@pytest.mark.parametrize(
    ("codec", "data"),
    [
        ("SNAPPY", b"\x0a\x00a\xfe\xff\x00"),  # copies from before its beginning
        ("SNAPPY", b"\x0a\x00a\x01\x00"),  # and from nowhere
        ("SNAPPY", b"\xff\xff\xff\xff\xff\x01"),
        ("LZ4", b"\x10a\xff\x00"),
        ("LZO", b"any"),
    ],
)
def test_invalid_data_is_broken(codec: str, data: bytes) -> None:
    with pytest.raises(BrokenBlock):
        stream(data, codec, 10).read_exactly(10)


@pytest.mark.parametrize("codec", ["SNAPPY", "LZ4"])
def test_a_decompression_bomb_is_read_piece_by_piece(codec: str) -> None:
    size = 2**23
    compressed = pyarrow.Codec(CODECS[codec]).compress(b"a" * size, asbytes=True)
    pieces = stream(compressed, codec, size)

    largest = max(map(len, pieces._pieces))

    assert largest <= 2 * decompression.PIECE_BYTES
