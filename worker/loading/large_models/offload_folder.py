"""The folder for weights on disk: private to one loaded model, and removed with it or, after a crash, by a later start.

A lock file beside each folder is locked while its process lives. The kernel releases it however a process ends.
Several users may have folders in one place, which leave those of the others alone.
"""

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

FOLDER_NAME = "offload"  # under home
GUARD_NAME = ".lock-{user_id}"  # held while folders are made or removed, so that no new one looks abandoned
LOCK_SUFFIX = ".lock"

_unreleased: "dict[Path, OffloadFolder]" = {}  # of this process, because a worker ends without teardown


@dataclass(frozen=True, slots=True)
class OffloadFolder:
    """A folder that the process with this id has; `release` removes it."""

    path: Path
    lock_descriptor: int
    process_id: int

    @classmethod
    def create(cls, parent: Path) -> "OffloadFolder":
        """Make a folder that only this user can read, and remove those of processes that have ended."""
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = parent / f"weights-{uuid.uuid4().hex}"
        with _exclusive(parent):
            _remove_abandoned(parent)
            descriptor = os.open(_lock_file(path), os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            path.mkdir(mode=0o700)
            folder = _unreleased[path] = cls(path, descriptor, os.getpid())
        return folder

    def release(self) -> None:
        """Remove the folder, once; a process that was forked from this one leaves it alone."""
        if os.getpid() != self.process_id or _unreleased.pop(self.path, None) is None:
            return
        shutil.rmtree(self.path, ignore_errors=True)
        with suppress(OSError):
            _lock_file(self.path).unlink()
        with suppress(OSError):
            os.close(self.lock_descriptor)


def release_all() -> None:
    """Remove all folders of this process, which is about to end."""
    for folder in list(_unreleased.values()):
        folder.release()


def remove_abandoned(parent: Path) -> int:
    """Remove the folders of processes that have ended, and return how many there were."""
    if not parent.is_dir():
        return 0
    with _exclusive(parent):
        return _remove_abandoned(parent)


def _remove_abandoned(parent: Path) -> int:
    removed = 0
    for lock_file in parent.glob(f"weights-*{LOCK_SUFFIX}"):
        try:
            if lock_file.lstat().st_uid != os.geteuid():
                continue  # of another user, who holds another guard
            descriptor = os.open(lock_file, os.O_RDWR)
        except FileNotFoundError:
            continue  # it was released meanwhile
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue  # its process lives
        else:
            shutil.rmtree(lock_file.with_suffix(""), ignore_errors=True)
            lock_file.unlink(missing_ok=True)
            removed += 1
        finally:
            os.close(descriptor)
    return removed


@contextmanager
def _exclusive(parent: Path) -> Iterator[None]:
    descriptor = os.open(parent / GUARD_NAME.format(user_id=os.geteuid()), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _lock_file(path: Path) -> Path:
    return path.with_name(path.name + LOCK_SUFFIX)
