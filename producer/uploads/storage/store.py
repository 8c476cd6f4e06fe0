"""The file store keeps the bytes of uploaded files, in a folder or behind a URL that fsspec knows.

A file's location is the id of its store and a random name of ours: `4f1c…/9b02…`. It is never made of a name that a
client chose. Another machine's folder is another store, unless both have the same folder mounted.
"""

import hashlib
import re
import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO, Self

from models.errors import MissingSource, SourceNotReady
from models.settings import Settings, file_store_ids

MARK_PREFIX = "database-"  # of the name of a mark
NAME_PATTERN = re.compile(r"[0-9a-f]{32}")
NAME_BYTES = 16


@dataclass(frozen=True, slots=True)
class StoredBytes:
    """A file that the store has wholly.

    location: by which the store finds it
    lines: a last line without a newline counts too
    sha256: of its bytes, in hexadecimal
    """

    location: str
    size_bytes: int
    lines: int
    sha256: str


@dataclass(frozen=True, slots=True)
class StoredName:
    """The name of a stored file, or of one that is being written, and its age."""

    name: str
    age_seconds: float


class FileWriter(ABC):
    """Writes one file, which exists only once it is committed; leaving the block without that discards it.

    All methods raise FileStoreUnavailable.
    """

    def __init__(self, location: str) -> None:
        self._location = location
        self._hash = hashlib.sha256()
        self._newlines = 0
        self._last_byte = b"\n"
        self._is_finished = False
        self.size_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.discard()

    def write(self, data: bytes) -> None:
        """Append bytes."""
        if not data:
            return
        self._write(data)
        self._hash.update(data)
        self._newlines += data.count(b"\n")
        self._last_byte = data[-1:]
        self.size_bytes += len(data)

    def commit(self) -> StoredBytes:
        """Make the file durable and visible."""
        self._commit()
        self._is_finished = True
        lines = self._newlines + (self._last_byte != b"\n")
        return StoredBytes(self._location, self.size_bytes, lines, self._hash.hexdigest())

    def discard(self) -> None:
        """Delete what was written, unless it was committed; does nothing the second time."""
        if not self._is_finished:
            self._is_finished = True
            self._discard()

    @abstractmethod
    def _write(self, data: bytes) -> None: ...

    @abstractmethod
    def _commit(self) -> None: ...

    @abstractmethod
    def _discard(self) -> None: ...


class FileStore(ABC):
    """Keeps files under random names; all methods raise FileStoreUnavailable if the storage does not answer."""

    @property
    @abstractmethod
    def store_id(self) -> str:
        """The same for every process that has the same files."""

    @property
    @abstractmethod
    def description(self) -> str:
        """Where the files are, without secrets."""

    def create(self) -> FileWriter:
        """Begin a file under a random name."""
        name = secrets.token_hex(NAME_BYTES)
        return self._create(name, f"{self.store_id}/{name}")

    def has(self, location: str) -> bool:
        """Whether a location is in this store; False if it is in the folder of another machine."""
        return location.partition("/")[0] == self.store_id

    def open(self, location: str) -> BinaryIO:
        """Open a file for reading; raises SourceNotReady if it is in another store, and MissingSource if it is gone."""
        return self._open(self._name_of(location))

    def size_bytes(self, location: str) -> int | None:
        """The size of a file; None if it is gone."""
        return self._size_bytes(self._name_of(location))

    def check_whole(self, location: str, size_bytes: int) -> None:
        """Raise MissingSource if a file is gone, or has lost bytes since it was uploaded."""
        actual_bytes = self.size_bytes(location)
        if actual_bytes is None:
            raise gone_error()
        if actual_bytes != size_bytes:
            raise MissingSource(
                f"the file store has {actual_bytes:,} bytes of the file, not {size_bytes:,}; upload it again"
            )

    def delete(self, location: str) -> None:
        """Delete a file; one that is gone already is no error."""
        self.delete_name(self._name_of(location))

    @abstractmethod
    def names(self) -> Iterator[StoredName]:
        """All that the store has, also what killed processes left behind half-written."""

    @abstractmethod
    def delete_name(self, name: str) -> None:
        """Delete what `names` has shown."""

    @abstractmethod
    def add_mark(self, mark: str) -> None:
        """Leave the mark of a database that keeps files here; a mark that is there already is no error."""

    @abstractmethod
    def marks(self) -> set[str]:
        """The marks of all databases that keep files here."""

    @abstractmethod
    def check_writable(self) -> None:
        """Write and delete a small file."""

    @abstractmethod
    def free_bytes(self) -> int | None:
        """How much more it can take; None = unknown."""

    @abstractmethod
    def _create(self, name: str, location: str) -> FileWriter: ...

    @abstractmethod
    def _open(self, name: str) -> BinaryIO: ...

    @abstractmethod
    def _size_bytes(self, name: str) -> int | None: ...

    def _name_of(self, location: str) -> str:
        """The name of a file of this store; the pattern keeps a forged row from naming any other file."""
        name = location.partition("/")[2]
        if not self.has(location):
            raise SourceNotReady("the file is in the file store of another machine, and can't be read from this one")
        if not NAME_PATTERN.fullmatch(name):
            raise MissingSource("the location of the file is none that a file store has; upload it again")
        return name


def open_store(settings: Settings) -> FileStore:
    """Return the file store that the settings name, without touching it yet."""
    folder = file_store_ids.folder_of(settings)
    if folder is None:
        return _remote_store(settings.file_store or "", settings.source_timeout_seconds)
    from producer.uploads.storage.local_store import LocalStore

    return LocalStore(folder)


def _remote_store(url: str, timeout_seconds: float) -> FileStore:
    from producer.uploads.storage.remote_store import RemoteStore

    return RemoteStore(url, timeout_seconds)


def gone_error() -> MissingSource:
    """The error of a file that is not in its store any more."""
    return MissingSource("the bytes of the file are gone from the file store; upload it again")
