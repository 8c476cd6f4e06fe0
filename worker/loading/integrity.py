"""Integrity checks compare a model's local files with their revision after a load has failed."""

import hashlib
import re
from pathlib import Path

from huggingface_hub import snapshot_download

from models.errors import BatchmillError
from models.pipelines.pipeline import Pipeline

GIT_BLOB_HASH = re.compile(r"[0-9a-f]{40}")
SHA256_HASH = re.compile(r"[0-9a-f]{64}")


def describe_damage(pipeline: Pipeline, revision: str | None) -> str | None:
    """Return a sentence if local files differ from the revision, so that the model is not at fault; else None."""
    if revision is None:
        return None
    try:
        if pipeline.folder is not None:  # checked by `Snapshot.has_changed` instead
            return None
        folder = Path(snapshot_download(pipeline.model, revision=revision, local_files_only=True))
        broken = [path for path in sorted(folder.rglob("*")) if path.is_file() and not _is_intact(path)]
    except (OSError, ValueError, BatchmillError) as error:
        return f"the files of {pipeline.model} can't be read on this machine: {error}"
    if not broken:
        return None
    return f"{broken[0].name} of {pipeline.model}@{revision} is damaged on this machine; delete {broken[0].resolve()}"


def _is_intact(path: Path) -> bool:
    """Compare a file with its name in the Hub's cache: SHA-256 for large files, git's blob hash for others."""
    if not path.is_symlink():
        return True
    name = path.resolve().name
    if SHA256_HASH.fullmatch(name):
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == name
    if GIT_BLOB_HASH.fullmatch(name):
        content = path.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == name
    return True
