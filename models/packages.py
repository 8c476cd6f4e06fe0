"""Import names of our packages: at the top level in a checkout, inside `batchmill` in an installed wheel."""

from importlib.util import find_spec
from pathlib import Path

SERVER_PACKAGES = ("fastapi", "uvicorn", "python_multipart")  # of the extra `serve`

PREFIX = __name__.removesuffix("models.packages")


def import_name(module: str) -> str:
    """The full import name of one of our modules, such as `worker.process`."""
    return PREFIX + module


def import_folder() -> Path:
    """Return the folder on the import path that our packages are in: the checkout, or `site-packages`."""
    return Path(__file__).parents[1 + PREFIX.count(".")]


def has_server() -> bool:
    """Whether the extra `serve` is installed."""
    return all(find_spec(package) is not None for package in SERVER_PACKAGES)
