"""The lock of a home: one `batchmill up` runs in it, and `batchmill down` finds that process there.

The lock is an advisory lock on the file `up.lock`, which the kernel releases when the process ends, however it ends.
The file holds the holder id of the process, so its number is never taken for that of a later process.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models.errors import UsageError
from models.privacy import private_files
from models.processes import holders
from models.processes.holders import HolderId

LOCK_NAME = "up.lock"
MAX_ID_BYTES = 1024

# A starting `up` locks the file and then writes its id, and `down` locks the file for a moment.
SETTLE_SECONDS = 1.0
POLL_SECONDS = 0.05


@contextmanager
def lock_home(home: Path) -> Iterator[None]:
    """Hold the lock of a home, creating the home if needed.

    Raises UsageError if an `up` runs there, and SettingsError or Unreachable if the home can't be written to.
    """
    with private_files.explain_unwritable(home):
        private_files.make_folder(home)
        descriptor = private_files.open_file(home / LOCK_NAME, os.O_RDWR)
    with os.fdopen(descriptor, "rb+", buffering=0) as file:
        if not _acquire(file.fileno()):
            holder = _read_holder(file.fileno())
            process = f" (pid {holder.pid})" if holder else ""
            raise UsageError(
                f"`batchmill up`{process} runs already in {home}; end it with: batchmill down; or set BATCHMILL_HOME "
                "to another folder"
            )
        with private_files.explain_unwritable(home):
            file.truncate(0)
            file.write(holders.new_holder_id().encode())
        try:
            yield
        finally:
            file.truncate(0)


def find_holder(home: Path) -> HolderId | None:
    """Find the `up` that runs in a home; None if there is none.

    Raises UsageError if one runs and can't be identified.
    """
    try:
        descriptor = os.open(home / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UsageError(f"{home / LOCK_NAME} can't be read: {error.strerror}") from None
    try:
        if _acquire(descriptor):
            return None
        holder = _read_holder(descriptor)
    finally:
        os.close(descriptor)
    if holder is None:
        lock = home / LOCK_NAME
        raise UsageError(f"an unknown process holds the lock {lock}; find it with: fuser {lock}")
    return holder


def _acquire(descriptor: int) -> bool:
    """Lock the file; False if a process that can be identified, or any for too long, holds the lock."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if _read_holder(descriptor) or time.monotonic() > deadline:
                return False
            time.sleep(POLL_SECONDS)
        else:
            return True


def _read_holder(descriptor: int) -> HolderId | None:
    """The holder that the file names, unless that process has ended."""
    text = os.pread(descriptor, MAX_ID_BYTES, 0).decode("utf-8", "replace")
    return None if holders.is_holder_gone(text) else HolderId.parse(text)
