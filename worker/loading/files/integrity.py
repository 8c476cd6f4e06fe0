"""Integrity checks compare a model's local files with their revision after a load has failed."""

import hashlib
import re
from pathlib import Path

from huggingface_hub import snapshot_download

from models.errors import BatchmillError
from models.pipelines.pipeline import Pipeline, split_revision

GIT_BLOB_HASH = re.compile(r"[0-9a-f]{40}")
SHA256_HASH = re.compile(r"[0-9a-f]{64}")


def describe_damage(pipeline: Pipeline, revision: str | None) -> str | None:
    """Return a sentence if local files differ from the revision, so that the model is not at fault; else None.

    revision: as a batch records it, with that of an adapter.
    """
    if revision is None:
        return None
    model_revision, adapter_revision = split_revision(revision)
    damage = None
    if pipeline.folder is None:  # a folder is checked by `Snapshot.has_changed` instead
        damage = _describe_damage(pipeline.model, model_revision)
    if damage is None and pipeline.adapter is not None and pipeline.adapter_folder is None and adapter_revision:
        damage = _describe_damage(pipeline.adapter, adapter_revision)
    return damage


def _describe_damage(repo_id: str, revision: str) -> str | None:
    try:
        folder = Path(snapshot_download(repo_id, revision=revision, local_files_only=True))
        broken = [path for path in sorted(folder.rglob("*")) if path.is_file() and not _is_intact(path)]
    except (OSError, ValueError, BatchmillError) as error:
        return f"the files of {repo_id} can't be read on this machine: {error}"
    if not broken:
        return None
    return f"{broken[0].name} of {repo_id}@{revision} is damaged on this machine; delete {broken[0].resolve()}"


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
