"""Configuration files of a model in JSON, which may come from anybody."""

import json
from pathlib import Path
from typing import Any

from models.errors import ModelError

MAX_FILE_BYTES = 4 << 20  # a larger file is no configuration


def read_object(path: Path) -> dict[str, Any]:
    """Return the object in a file, empty if there is no such file; raises ModelError for one that can't be read."""
    content = read_json(path)
    if content is not None and not isinstance(content, dict):
        raise ModelError(f"{path.name} is not an object; fetch the model again")
    return content or {}


def read_json(path: Path) -> Any:
    """Return what a JSON file holds; None if there is no such file. Raises ModelError as `read_object`."""
    try:
        if not path.is_file():
            return None
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ModelError(f"{path.name} has more than {MAX_FILE_BYTES >> 20} MiB, which no configuration has")
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path.parent.name}/{path.name} can't be read: {str(error)[:200]}") from None
