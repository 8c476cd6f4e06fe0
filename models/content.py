"""What is in a model's folder, as one hash: the revision of a model that has no commit."""

import hashlib
from pathlib import Path

from models.errors import MissingModel


def content_hash(folder: Path) -> str:
    """`sha256:` over the names and bytes of every file in the folder, hidden ones aside.

    Raises MissingModel where there is no folder, or an empty one.
    """
    if not folder.is_dir():
        raise MissingModel(f"there is no model folder {folder}; check the catalogue entry's model")
    if not any(folder.iterdir()):
        raise MissingModel(f"the model folder {folder} is empty; put the model there, or mount its disk")
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder)
        if any(part.startswith(".") for part in name.parts):
            continue
        with path.open("rb") as file:
            digest.update(f"{name.as_posix()}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return f"sha256:{digest.hexdigest()}"
