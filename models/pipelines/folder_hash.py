"""Content hashes of model folders, which serve as revisions, and checks that a folder is unchanged."""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from models.errors import MissingModel
from models.privacy import private_files

# File systems round times to milliseconds, or to as much as two seconds. A file changed this recently may change again
# without a visible difference.
STABLE_AFTER_SECONDS = 2.0
MIN_CACHED_BYTES = 64 << 20  # below, hashing is as fast as a cache lookup
MAX_CACHED_FOLDERS = 1000

# Name, device, inode, size, mtime and ctime of a file.
FileSignature = tuple[str, int, int, int, int, int]


def content_hash(folder: Path, key: str = "model") -> str:
    """Return `sha256:` over the names and bytes of every file in the folder except hidden ones.

    key: the key of the catalogue entry that names the folder, for messages.

    Raises MissingModel if the folder is missing or empty.
    """
    check_folder(folder, key)
    digest = hashlib.sha256()
    for path, name in _hashed_files(folder):
        with path.open("rb") as file:
            digest.update(f"{name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def check_folder(folder: Path, key: str) -> None:
    """Raise MissingModel if the folder is missing or empty; `key` as for `content_hash`."""
    if not folder.is_dir():
        raise MissingModel(f"there is no {key} folder {folder}; check the catalogue entry's {key}")
    if not any(folder.iterdir()):
        raise MissingModel(f"the {key} folder {folder} is empty; put the {key} there, or mount its disk")


@dataclass(frozen=True, slots=True)
class FolderState:
    """A folder's file metadata at one moment, taken without reading the files."""

    signatures: tuple[FileSignature, ...]
    is_stable: bool  # True if any later change of a file must alter its signature

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
        """Take the state of the folder now."""
        now = time.time()
        signatures = tuple(_file_signature(path, name) for path, name in _hashed_files(folder))
        newest = max((max(signature[4:]) for signature in signatures), default=0) / 1e9
        return cls(signatures, newest < now - STABLE_AFTER_SECONDS)

    def has_revision(self, folder: Path, revision: str) -> bool:
        """Return whether the folder has held `revision` since this state was taken; any changed file shows."""
        try:
            same = FolderState.from_folder(folder).signatures == self.signatures
            return same and (self.is_stable or content_hash(folder) == revision)
        except (OSError, MissingModel):
            return False


def cached_content_hash(folder: Path, cache_file: Path) -> str:
    """Return `content_hash(folder)`, cached in `cache_file` for large folders that have not changed.

    Raises MissingModel if the folder is missing or empty.
    """
    if not folder.is_dir():
        return content_hash(folder)
    state = FolderState.from_folder(folder)
    if not state.is_stable or sum(signature[3] for signature in state.signatures) < MIN_CACHED_BYTES:
        return content_hash(folder)
    key = os.path.realpath(folder)
    state_digest = hashlib.sha256(repr(state.signatures).encode()).hexdigest()
    cache = _read_cache(cache_file)
    if cache.get(key, ("", ""))[0] == state_digest:
        return cache[key][1]
    revision = content_hash(folder)
    if FolderState.from_folder(folder).signatures == state.signatures:
        other_entries = {name: cache[name] for name in list(cache)[-MAX_CACHED_FOLDERS:] if name != key}
        _write_cache(cache_file, {**other_entries, key: (state_digest, revision)})
    return revision


def _hashed_files(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield each hashed file and its name within the folder, in hashing order."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder)
        if not any(part.startswith(".") for part in name.parts):
            yield path, name.as_posix()


def _file_signature(path: Path, name: str) -> FileSignature:
    status = path.stat()
    return name, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _read_cache(cache_file: Path) -> dict[str, tuple[str, str]]:
    try:
        entries = json.loads(cache_file.read_bytes()).items()
        return {str(key): (str(digest), str(revision)) for key, (digest, revision) in entries}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}  # an unreadable cache only costs time


def _write_cache(cache_file: Path, entries: dict[str, tuple[str, str]]) -> None:
    partial = cache_file.with_name(f".{cache_file.name}.{os.getpid()}")
    with suppress(OSError):
        private_files.make_folder(cache_file.parent)
        partial.unlink(missing_ok=True)
        with os.fdopen(private_files.create_exclusive(partial), "w") as file:
            json.dump(entries, file)
        partial.replace(cache_file)
