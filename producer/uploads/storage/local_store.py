"""A folder as a file store."""

import errno
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from models.errors import FileStoreUnavailable
from models.privacy import private_files
from models.settings import file_store_ids
from models.settings.file_store_ids import ID_FILE
from producer.uploads.storage.store import MARK_PREFIX, NAME_PATTERN, FileStore, FileWriter, StoredName, gone_error

PARTIAL_SUFFIX = ".part"  # of a file that is being written
UNFINISHED_ID = re.compile(rf"{ID_FILE}-[0-9a-f]{{16}}")  # of a process that was killed while it wrote the id
LOST_AND_FOUND = "lost+found"  # a new file system has it
BUFFER_BYTES = 2**20

# Uploads leave this much of the disk free, because an embedded database may be on it. Asked for after so many bytes.
MIN_FREE_BYTES, CHECK_BYTES = 100 * 2**20, 16 * 2**20


class LocalStore(FileStore):
    """Files in a folder, which several machines may have mounted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cached_property
    def store_id(self) -> str:
        """The id that the folder's first user wrote there, so that a mounted folder is the same store everywhere.

        Raises FileStoreUnavailable for a folder with other files and without an id, because it is somebody else's.
        """
        with _explain(self._folder):
            private_files.make_folder(self._folder)
            path = self._folder / ID_FILE
            if not path.exists():
                has_other_files = any(not _is_ignored(entry.name) for entry in self._folder.iterdir())
                if has_other_files and not path.exists():  # not even by now, so no other process has begun this store
                    raise _foreign_error(self._folder)
                self._write_id(path)
            return file_store_ids.id_of_folder(self._folder)

    @property
    def description(self) -> str:
        """The folder."""
        return str(self._folder)

    def names(self) -> Iterator[StoredName]:
        """The files of the folder that a store has written; no others, because a sweep deletes what has no row."""
        with _explain(self._folder):
            if not self._folder.is_dir():
                return
            for entry in os.scandir(self._folder):
                if _is_ours(entry.name) and entry.is_file(follow_symlinks=False):
                    with suppress(FileNotFoundError):
                        age_seconds = time.time() - entry.stat(follow_symlinks=False).st_mtime
                        yield StoredName(entry.name, age_seconds)

    def delete_name(self, name: str) -> None:
        """Delete a file of the folder."""
        with _explain(self._folder):
            (self._folder / name).unlink(missing_ok=True)

    def add_mark(self, mark: str) -> None:
        """Create an empty file that is named after it."""
        with _explain(self._folder):
            private_files.make_folder(self._folder)
            private_files.make_file(self._folder / f"{MARK_PREFIX}{mark}")

    def marks(self) -> set[str]:
        """Those of the files that are named so."""
        with _explain(self._folder):
            return {path.name.removeprefix(MARK_PREFIX) for path in self._folder.glob(f"{MARK_PREFIX}*")}

    def check_writable(self) -> None:
        """Write and delete a small file."""
        with self.create() as writer:
            writer.write(b"\n")

    def free_bytes(self) -> int | None:
        """The space that its file system has left."""
        with _explain(self._folder):
            return shutil.disk_usage(self._folder).free

    def _create(self, name: str, location: str) -> FileWriter:
        return _LocalWriter(self._folder / name, location)

    def _open(self, name: str) -> BinaryIO:
        try:
            descriptor = os.open(self._folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise gone_error() from None
        except OSError as error:
            if error.errno == errno.ELOOP:  # a link in its place
                raise gone_error() from None
            raise _unavailable_error(self._folder, error) from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise gone_error()
        return os.fdopen(descriptor, "rb", buffering=BUFFER_BYTES)

    def _size_bytes(self, name: str) -> int | None:
        try:
            return (self._folder / name).lstat().st_size
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unavailable_error(self._folder, error) from None

    def _write_id(self, path: Path) -> None:
        """Write a new id, unless another process is faster."""
        new = path.with_name(f"{path.name}-{secrets.token_hex(8)}")
        try:
            with os.fdopen(private_files.create_exclusive(new), "wb") as file:
                file.write(secrets.token_hex(file_store_ids.ID_BYTES).encode())
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):
                os.link(new, path)
        finally:
            new.unlink(missing_ok=True)


class _LocalWriter(FileWriter):
    def __init__(self, path: Path, location: str) -> None:
        super().__init__(location)
        self._path = path
        self._partial_path = path.with_name(path.name + PARTIAL_SUFFIX)
        with _explain(path.parent):
            private_files.make_folder(path.parent)
            self._check_space()
            self._file = os.fdopen(private_files.create_exclusive(self._partial_path), "wb", buffering=0)

    def _check_space(self) -> None:
        """Raise OSError if the disk is nearly full."""
        if shutil.disk_usage(self._path.parent).free < MIN_FREE_BYTES:
            raise OSError(errno.ENOSPC, f"less than {MIN_FREE_BYTES // 2**20} MiB are free")

    def _write(self, data: bytes) -> None:
        with _explain(self._path.parent):
            if self.size_bytes // CHECK_BYTES != (self.size_bytes + len(data)) // CHECK_BYTES:
                self._check_space()
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) :]

    def _commit(self) -> None:
        with _explain(self._path.parent):
            os.fsync(self._file.fileno())
            self._file.close()
            self._partial_path.rename(self._path)
            _sync_folder(self._path.parent)

    def _discard(self) -> None:
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._partial_path.unlink(missing_ok=True)


def _is_ours(name: str) -> bool:
    is_file = NAME_PATTERN.fullmatch(name.removesuffix(PARTIAL_SUFFIX)) is not None
    return is_file or UNFINISHED_ID.fullmatch(name) is not None


def _is_ignored(name: str) -> bool:
    """Whether a new store may begin in a folder with such an entry."""
    return name.startswith((".", f"{ID_FILE}-")) or name == LOST_AND_FOUND


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _explain(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _unavailable_error(folder, error) from None


def _unavailable_error(folder: Path, error: OSError) -> FileStoreUnavailable:
    advice = "free some space" if error.errno in private_files.FULL_ERRNOS else "set file_store to another place"
    return FileStoreUnavailable(f"the file store {folder} refuses this ({error.strerror}); {advice}")


def _foreign_error(folder: Path) -> FileStoreUnavailable:
    return FileStoreUnavailable(
        f"the folder {folder} has files and no {ID_FILE}, so it is no file store; set file_store to an empty folder"
    )
