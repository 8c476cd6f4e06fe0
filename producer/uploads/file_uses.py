"""The batches that were made from uploaded files."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BindParameter, bindparam, text

from models.db import Database

MAX_BATCHES_SHOWN = 3  # of each file, the newest

# By the index `batches_of_file`.
SELECT_BATCHES = """
SELECT id, name, status, input_file_id FROM (
    SELECT id, name, status, input_file_id, created_at,
           row_number() OVER (PARTITION BY input_file_id ORDER BY created_at DESC, id DESC) AS place
    FROM batches WHERE input_file_id IN :file_ids
) AS numbered WHERE place <= :most ORDER BY created_at DESC, id DESC
"""
COUNT_BATCHES = "SELECT input_file_id, count(*) FROM batches WHERE input_file_id IN :file_ids GROUP BY input_file_id"


@dataclass(frozen=True, slots=True)
class FileBatch:
    """A batch that was made from a file."""

    id: str
    name: str | None
    status: str


@dataclass(frozen=True, slots=True)
class FileUse:
    """The batches of one file.

    newest: at most MAX_BATCHES_SHOWN
    count: of all that are not deleted
    """

    newest: tuple[FileBatch, ...]
    count: int


UNUSED = FileUse((), 0)


def find_uses(database: Database, file_ids: Collection[str]) -> dict[str, FileUse]:
    """Return the batches of these files; a file without any is not in the answer."""
    if not file_ids:
        return {}
    by_file: dict[str, list[FileBatch]] = {}
    params = {"file_ids": list(file_ids), "most": MAX_BATCHES_SHOWN}
    ids: BindParameter[Any] = bindparam("file_ids", expanding=True)
    with database.read() as connection:
        for row in connection.execute(text(SELECT_BATCHES).bindparams(ids), params):
            by_file.setdefault(row.input_file_id, []).append(FileBatch(row.id, row.name, row.status))
        counts = connection.execute(text(COUNT_BATCHES).bindparams(ids), {"file_ids": list(file_ids)}).all()
    return {file_id: FileUse(tuple(by_file.get(file_id, ())), count) for file_id, count in counts}
