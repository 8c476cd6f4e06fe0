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
    "what is never twice": RANDOM.randbytes(900_000),
    "a short pattern": b"abc" * 300_000,
    "words": b" ".join(RANDOM.choices([b"good", b"bad", b"excellent", b"terrible"], k=60_000)),
    "both": RANDOM.randbytes(100_000) + b"x" * 500_000 + RANDOM.randbytes(70_000) * 3,
}


def stream(packed: bytes, codec: str, size: int, whole_bytes: int = 0) -> ByteStream:
    before = b"before"
    return decompress(
        FileSpan(io.BytesIO(before + packed + b"behind"), len(before), len(packed)), codec, pyarrow, size, whole_bytes
    )


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
@pytest.mark.parametrize("codec", [*CODECS, "UNCOMPRESSED"])
@pytest.mark.parametrize("whole_bytes", [0, 2**22])
def test_what_was_packed_comes_out_again(codec: str, content: bytes, whole_bytes: int) -> None:
    packed = content if codec == "UNCOMPRESSED" else pyarrow.Codec(CODECS[codec]).compress(content, asbytes=True)
    found = stream(packed, codec, len(content), whole_bytes)

    half = len(content) // 2
    assert found.read_exactly(half) == content[:half]
    found.skip(len(content) // 4)
    assert found.read_exactly(len(content) - half - len(content) // 4) == content[half + len(content) // 4 :]
    with pytest.raises(BrokenBlock):
        found.read_exactly(1)


@pytest.mark.parametrize("codec", CODECS)
def test_a_block_that_is_cut_off_is_broken(codec: str) -> None:
    content = CONTENTS["words"]
    packed = pyarrow.Codec(CODECS[codec]).compress(content, asbytes=True)

    with pytest.raises((BrokenBlock, OSError)):
        stream(packed[: len(packed) // 2], codec, len(content)).read_exactly(len(content))


@pytest.mark.parametrize(
    ("codec", "packed"),
    [
        ("SNAPPY", b"\x0a\x00a\xfe\xff\x00"),  # copies from before its beginning
        ("SNAPPY", b"\x0a\x00a\x01\x00"),  # and from nowhere
        ("SNAPPY", b"\xff\xff\xff\xff\xff\x01"),
        ("LZ4", b"\x10a\xff\x00"),
        ("LZO", b"any"),
    ],
)
def test_what_is_no_block_is_broken(codec: str, packed: bytes) -> None:
    with pytest.raises(BrokenBlock):
        stream(packed, codec, 10).read_exactly(10)


@pytest.mark.parametrize("codec", ["SNAPPY", "LZ4"])
def test_a_bomb_comes_piece_by_piece(codec: str) -> None:
    size = 2**25
    packed = pyarrow.Codec(CODECS[codec]).compress(b"a" * size, asbytes=True)
    pieces = stream(packed, codec, size)

    largest = max(map(len, pieces._pieces))

    assert largest <= 2 * decompression.PIECE_BYTES
