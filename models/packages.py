"""Import names of our packages: at the top level in a checkout, inside `batchmill` in an installed wheel."""

from pathlib import Path

PREFIX = __name__.removesuffix("models.packages")


def import_name(module: str) -> str:
    """The full import name of one of our modules, such as `worker.process.main`."""
    return PREFIX + module


def import_folder() -> Path:
    """Return the folder on the import path that our packages are in: the checkout, or `site-packages`."""
    return Path(__file__).parents[1 + PREFIX.count(".")]
