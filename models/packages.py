"""Where our packages are imported from: the top level in a checkout, the package `batchmill` in an installed wheel."""

PREFIX = __name__.removesuffix("models.packages")


def import_name(module: str) -> str:
    """The name by which Python finds a module of ours, such as `worker.process.main`."""
    return PREFIX + module
