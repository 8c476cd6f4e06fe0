"""Intact: whether a model's files on this machine are what their revision says, checked when they can't be loaded."""

import hashlib
import re
from pathlib import Path

from huggingface_hub import snapshot_download

from models.errors import BatchmillError
from models.pipelines.pipeline import Pipeline

GIT_BLOB_HASH = re.compile(r"[0-9a-f]{40}")
SHA256_HASH = re.compile(r"[0-9a-f]{64}")


def describe_damage(pipeline: Pipeline, revision: str | None) -> str | None:
    """A sentence where the files are not those of the revision, so that the model is not to blame; else None."""
    if revision is None:
        return None
    try:
        if pipeline.folder is not None:  # whose state is remembered: see `Snapshot.has_changed`
            return None
        folder = Path(snapshot_download(pipeline.model, revision=revision, local_files_only=True))
        broken = [path for path in sorted(folder.rglob("*")) if path.is_file() and not _is_intact(path)]
    except (OSError, ValueError, BatchmillError) as error:
        return f"the files of {pipeline.model} can't be read on this machine: {error}"
    if not broken:
        return None
    return f"{broken[0].name} of {pipeline.model}@{revision} is damaged on this machine; delete {broken[0].resolve()}"


def _is_intact(path: Path) -> bool:
    """The Hub's cache names each file by its hash: a large one by SHA-256, another as git does."""
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
