"""A spool is a temporary file on disk for data that has to be read out of order."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

# /tmp is memory on many machines, and this folder is not. TMPDIR takes precedence.
SPOOL_FOLDER = Path("/var/tmp")  # noqa: S108


@contextmanager
def open_spool() -> Iterator[BinaryIO]:
    """An unbuffered temporary file, deleted when the block ends."""
    folder = SPOOL_FOLDER if "TMPDIR" not in os.environ and os.access(SPOOL_FOLDER, os.W_OK | os.X_OK) else None
    with tempfile.TemporaryFile(prefix="batchmill-", buffering=0, dir=folder) as file:
        yield cast("BinaryIO", file)
