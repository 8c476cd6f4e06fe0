"""Spools: files of ours for what has to be read out of order, where there is a disk and not memory."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

# /tmp is memory on many machines, and this is not; whoever sets TMPDIR knows better.
DISK = Path("/var/tmp")  # noqa: S108


@contextmanager
def spool() -> Iterator[BinaryIO]:
    """An unbuffered file that is gone with the block."""
    folder = DISK if "TMPDIR" not in os.environ and os.access(DISK, os.W_OK | os.X_OK) else None
    with tempfile.TemporaryFile(prefix="batchmill-", buffering=0, dir=folder) as file:
        yield cast("BinaryIO", file)
