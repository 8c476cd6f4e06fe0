"""Which files are read before their request is answered: those that are small also when they are unpacked.

A megabyte of gzip may unpack to a gigabyte of rows, which would hold the request's thread for minutes.
"""

from models.errors import FileStoreUnavailable, SourceNotReady, UnreadableSource
from producer.readers.files.compression import decompress
from producer.uploads.storage.store import FileStore

# A file of this size is read in a fraction of a second. A larger one would keep its client, and the thread, waiting.
MAX_IMMEDIATE_BYTES = 2**20

PARQUET_MAGIC = b"PAR1"  # of a file whose size says nothing about the number of its rows


def is_immediate(store: FileStore, location: str, size_bytes: int) -> bool:
    """Whether a file of the store is read at once; others are left to the processes that take files in."""
    if size_bytes > MAX_IMMEDIATE_BYTES:
        return False
    try:
        with store.open(location) as stream:
            content = decompress(stream, "the file").read(MAX_IMMEDIATE_BYTES + 1)
    except (SourceNotReady, FileStoreUnavailable):
        return False
    except UnreadableSource:  # so it can't be read any further than this either
        return True
    return len(content) <= MAX_IMMEDIATE_BYTES and not content.startswith(PARQUET_MAGIC)
