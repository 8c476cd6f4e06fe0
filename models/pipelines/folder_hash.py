"""What is in a model's folder, as one hash: the revision of a model without a commit; and whether that has changed."""

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

# File systems keep times in steps, of milliseconds or of two seconds: a file that was written to so lately may be
# written to again and look the same.
STABLE_AFTER_SECONDS = 2.0
MIN_CACHED_BYTES = 64 << 20  # below, hashing takes no longer than looking up
MAX_CACHED_FOLDERS = 1000

# A file's name, device, inode, size, and the times of its last change and of the last change of all that is said here.
FileSignature = tuple[str, int, int, int, int, int]


def content_hash(folder: Path) -> str:
    """`sha256:` over the names and bytes of every file in the folder, hidden ones aside.

    Raises MissingModel where there is no folder, or an empty one.
    """
    if not folder.is_dir():
        raise MissingModel(f"there is no model folder {folder}; check the catalogue entry's model")
    if not any(folder.iterdir()):
        raise MissingModel(f"the model folder {folder} is empty; put the model there, or mount its disk")
    digest = hashlib.sha256()
    for path, name in _hashed_files(folder):
        with path.open("rb") as file:
            digest.update(f"{name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return f"sha256:{digest.hexdigest()}"


@dataclass(frozen=True, slots=True)
class FolderState:
    """A folder's files as the file system tells of them at one moment, without reading them."""

    signatures: tuple[FileSignature, ...]
    is_stable: bool  # whether each later change of a file must show in its mark

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
        """As it is now."""
        now = time.time()
        marks = tuple(_file_signature(path, name) for path, name in _hashed_files(folder))
        newest = max((max(mark[4:]) for mark in marks), default=0) / 1e9
        return cls(marks, newest < now - STABLE_AFTER_SECONDS)

    def has_revision(self, folder: Path, revision: str) -> bool:
        """Whether the folder has had the content of `revision` since; a file that came, went or was replaced shows."""
        try:
            same = FolderState.from_folder(folder).signatures == self.signatures
            return same and (self.is_stable or content_hash(folder) == revision)
        except (OSError, MissingModel):
            return False


def cached_content_hash(folder: Path, cache_file: Path) -> str:
    """The same as `content_hash`, from a file that keeps the hashes of large folders which have not changed since.

    Raises what that does.
    """
    if not folder.is_dir():
        return content_hash(folder)
    state = FolderState.from_folder(folder)
    if not state.is_stable or sum(mark[3] for mark in state.signatures) < MIN_CACHED_BYTES:
        return content_hash(folder)
    key = os.path.realpath(folder)
    marks = hashlib.sha256(repr(state.signatures).encode()).hexdigest()
    known = _read_cache(cache_file)
    if known.get(key, ("", ""))[0] == marks:
        return known[key][1]
    found = content_hash(folder)
    if FolderState.from_folder(folder).signatures == state.signatures:
        others = {name: known[name] for name in list(known)[-MAX_CACHED_FOLDERS:] if name != key}
        _write_cache(cache_file, {**others, key: (marks, found)})
    return found


def _hashed_files(folder: Path) -> Iterator[tuple[Path, str]]:
    """Each file that counts, with its name within the folder, in the order in which they are hashed."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder)
        if not any(part.startswith(".") for part in name.parts):
            yield path, name.as_posix()


def _file_signature(path: Path, name: str) -> FileSignature:
    status = path.stat()
    return name, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _read_cache(cache_file: Path) -> dict[str, tuple[str, str]]:
    try:
        return {
            str(key): (str(marks), str(found)) for key, (marks, found) in json.loads(cache_file.read_bytes()).items()
        }
    except (OSError, ValueError, AttributeError, TypeError):
        return {}  # it is only ever a shorter way


def _write_cache(cache_file: Path, entries: dict[str, tuple[str, str]]) -> None:
    partial = cache_file.with_name(f".{cache_file.name}.{os.getpid()}")
    with suppress(OSError):
        private_files.make_folder(cache_file.parent)
        partial.unlink(missing_ok=True)
        with os.fdopen(private_files.create_exclusive(partial), "w") as file:
            json.dump(entries, file)
        partial.replace(cache_file)
