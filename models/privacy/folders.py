"""Names of models that are folders of the operator's machine, as tenants see them."""

from pathlib import PurePosixPath, PureWindowsPath

# SQL for the same; no folder of a worker is one of Windows.
LAST_PART_SQL = """
CASE WHEN substr({sql}, 1, 1) = '/' THEN substr({sql}, 1 + length(rtrim({sql}, replace({sql}, '/', '')))) ELSE {sql} END
""".strip()


def last_part(name: str) -> str:
    """Return the last part of a folder's path, and any other name as it is."""
    for path in (PurePosixPath(name), PureWindowsPath(name)):
        if path.is_absolute():
            return path.name
    return name
