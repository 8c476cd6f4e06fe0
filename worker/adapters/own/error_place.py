"""The place in an author's code where an exception was raised. It may be shown and logged, unlike what it says."""

import sysconfig
import traceback
from pathlib import Path

from models import packages

# Their frames say nothing about the author's code; neither do those of Batchmill and of Python itself.
LIBRARIES = frozenset(("numpy", "pydantic", "tokenizers", "torch", "transformers"))
OWN_FOLDERS = tuple(
    packages.import_folder() / packages.import_name(room).replace(".", "/") for room in ("models", "worker")
)
STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib"))


def error_place(error: BaseException) -> str | None:
    """Return the innermost place outside of libraries, such as `adapter.py, line 41`; None = there is none."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_library(Path(frame.filename))]
    return f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else None


def _is_library(file: Path) -> bool:
    if "site-packages" in file.parts:
        name = file.parts[file.parts.index("site-packages") + 1]
        return name in LIBRARIES or any(map(file.is_relative_to, OWN_FOLDERS))
    return any(map(file.is_relative_to, (*OWN_FOLDERS, STANDARD_LIBRARY)))
