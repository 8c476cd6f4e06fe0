"""What is in a model's folder, as one hash: the revision of a model that has no commit."""

import hashlib
from pathlib import Path

from models.errors import ModelError


def content_hash(folder: Path) -> str:
    """`sha256:` over the names and bytes of every file in the folder, hidden ones aside.

    Raises ModelError where there is no folder.
    """
    if not folder.is_dir():
        raise ModelError(f"there is no model folder {folder}; check the catalogue entry's model")
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder)
        if any(part.startswith(".") for part in name.parts):
            continue
        with path.open("rb") as file:
            digest.update(f"{name.as_posix()}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return f"sha256:{digest.hexdigest()}"
