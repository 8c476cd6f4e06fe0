"""A file store has an id, with which the location of each of its files begins: `4f1c…/9b02…`.

A folder has it in a file, so that a mounted folder is the same store on every machine. The id of a URL is its hash.
"""

import hashlib
from pathlib import Path

from models.privacy import urls
from models.settings import Settings

DEFAULT_FOLDER = "files"  # under home
ID_FILE = "store-id"  # in the folder
ID_BYTES = 6
MAX_ID_FILE_BYTES = 64
LOCAL_SCHEMES = ("file://", "local://")


def folder_of(settings: Settings) -> Path | None:
    """The folder that is the file store; None if a URL is."""
    place = settings.file_store
    if place is not None and "://" in place and not place.startswith(LOCAL_SCHEMES):
        return None
    folder = settings.home_path / DEFAULT_FOLDER if place is None else Path(place.partition("://")[2] or place)
    return folder.expanduser().absolute()


def id_of_folder(folder: Path) -> str:
    """The id that the folder's first user wrote there; raises OSError."""
    with (folder / ID_FILE).open("rb") as file:
        return file.read(MAX_ID_FILE_BYTES).decode("ascii", "replace").strip()


def id_of_url(url: str) -> str:
    """The id of a URL, which all processes have from the same setting."""
    return hashlib.sha256(urls.redact_path(url.rstrip("/")).encode()).hexdigest()[: 2 * ID_BYTES]


def location_pattern(settings: Settings) -> str:
    """What the locations of the store's files are LIKE; those of no file, if it is a folder that can't be read now."""
    folder = folder_of(settings)
    if folder is None:
        return f"{id_of_url(settings.file_store or '')}/%"
    try:
        return f"{id_of_folder(folder)}/%"
    except OSError:
        return "/%"
