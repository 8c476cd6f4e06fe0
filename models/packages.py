"""Import names of our packages: at the top level in a checkout, inside `batchmill` in an installed wheel."""

PREFIX = __name__.removesuffix("models.packages")


def import_name(module: str) -> str:
    """The full import name of one of our modules, such as `worker.process.main`."""
    return PREFIX + module
