"""A URL that fsspec knows, such as s3://bucket/files, as a file store."""

import io
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, BinaryIO, TypeVar

from models.errors import BatchmillError, FileStoreUnavailable
from models.privacy import urls
from models.settings import file_store_ids
from producer.readers.files import remote
from producer.timeouts import call_within
from producer.uploads.storage.store import MARK_PREFIX, NAME_PATTERN, FileStore, FileWriter, StoredName, gone_error

THREAD_NAME = "file store"
TIME_FIELDS = ("LastModified", "last_modified", "updated", "mtime", "created")  # as the packages of fsspec name it

Value = TypeVar("Value")


class RemoteStore(FileStore):
    """Files behind a URL; each call that takes longer than the timeout is given up.

    An object appears there when its writer closes it, so no reader sees half of one.
    """

    def __init__(self, url: str, timeout_seconds: float) -> None:
        self._url = url.rstrip("/")
        self._timeout_seconds = timeout_seconds

    @cached_property
    def store_id(self) -> str:
        """A hash of the URL, which all processes have from the same setting."""
        return file_store_ids.id_of_url(self._url)

    @property
    def description(self) -> str:
        """The URL without its secrets."""
        return urls.redact_path(self._url)

    def call(self, work: Callable[[Any, str], Value]) -> Value:
        """Return what `work` returns for the file system and the folder in it; raises FileStoreUnavailable."""

        def run() -> Value:
            system, folder = remote.file_system_for(self._url)
            return work(system, folder.rstrip("/"))

        try:
            return call_within(self._timeout_seconds, run, THREAD_NAME)
        except FileNotFoundError:
            raise
        except BatchmillError as error:
            raise FileStoreUnavailable(f"the file store can't be used: {error}") from None
        except Exception as error:  # each scheme has a package with its own errors, which may quote a signed URL
            raise FileStoreUnavailable(
                f"the file store {self.description} does not answer ({type(error).__name__}); repeat this later"
            ) from None

    def names(self) -> Iterator[StoredName]:
        """All objects under the URL."""
        try:
            entries = self.call(lambda system, folder: system.ls(folder, detail=True, refresh=True))
        except FileNotFoundError:
            return
        now = time.time()
        for entry in entries:
            name = entry["name"].rstrip("/").rpartition("/")[2]
            if entry["type"] == "file" and NAME_PATTERN.fullmatch(name):
                yield StoredName(name, now - _modified_at(entry, now))

    def delete_name(self, name: str) -> None:
        """Delete an object."""
        with suppress(FileNotFoundError):
            self.call(lambda system, folder: system.rm_file(f"{folder}/{name}"))

    def add_mark(self, mark: str) -> None:
        """Write an object that is named after it."""
        self.call(lambda system, folder: system.pipe_file(f"{folder}/{MARK_PREFIX}{mark}", b"\n"))

    def marks(self) -> set[str]:
        """Those of the objects that are named so."""
        try:
            paths = self.call(lambda system, folder: system.ls(folder, detail=False, refresh=True))
        except FileNotFoundError:
            return set()
        names = (path.rstrip("/").rpartition("/")[2] for path in paths)
        return {name.removeprefix(MARK_PREFIX) for name in names if name.startswith(MARK_PREFIX)}

    def check_writable(self) -> None:
        """Write and delete a small object."""
        with self.create() as writer:
            writer.write(b"\n")
            location = writer.commit().location
        self.delete(location)

    def free_bytes(self) -> int | None:
        """Unknown."""
        return None

    def _create(self, name: str, location: str) -> FileWriter:
        return _RemoteWriter(self, name, location)

    def _open(self, name: str) -> BinaryIO:
        try:
            stream = self.call(lambda system, folder: system.open(f"{folder}/{name}", "rb"))
        except FileNotFoundError:
            raise gone_error() from None
        return io.BufferedReader(remote.RemoteStream(stream, self._timeout_seconds), remote.BUFFER_BYTES)

    def _size_bytes(self, name: str) -> int | None:
        try:
            return int(self.call(lambda system, folder: system.info(f"{folder}/{name}"))["size"])
        except FileNotFoundError:
            return None


class _RemoteWriter(FileWriter):
    def __init__(self, store: RemoteStore, name: str, location: str) -> None:
        super().__init__(location)
        self._store = store
        self._name = name
        self._file: Any = store.call(self._open)

    def _open(self, system: Any, folder: str) -> Any:
        system.makedirs(folder, exist_ok=True)
        return system.open(f"{folder}/{self._name}", "wb")

    def _write(self, data: bytes) -> None:
        self._store.call(lambda _system, _folder: self._file.write(data))

    def _commit(self) -> None:
        self._store.call(lambda _system, _folder: self._file.close())

    def _discard(self) -> None:
        # Some files of fsspec can give up; those which can't are closed and deleted.
        with suppress(FileStoreUnavailable, FileNotFoundError):
            self._store.call(lambda _system, _folder: getattr(self._file, "discard", self._file.close)())
        with suppress(FileStoreUnavailable):
            self._store.delete_name(self._name)


def _modified_at(entry: dict[str, Any], default: float) -> float:
    """When an object was last modified, in seconds since 1970; the default if its package does not say."""
    value = next((entry[field] for field in TIME_FIELDS if entry.get(field) is not None), None)
    with suppress(ValueError):
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    return float(value) if isinstance(value, int | float) else default
