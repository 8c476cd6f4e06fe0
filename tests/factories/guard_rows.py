"""Guards of a batch written straight to SQL, and verdicts as results hold them."""

from typing import Any

from sqlalchemy import insert

from models.db import Database
from models.tables.batches import BatchGuard
from tests.factories.batch_rows import update_batch

NO_VERDICT: dict[str, Any] = {
    "score": None,
    "label": None,
    "spans": 0,
    "model": None,
    "revision": None,
    "definition": None,
}


def insert_guards(database: Database, batch_id: str, *guards: dict[str, Any]) -> None:
    """Give a batch these rows of `batch_guards`, each with its `guard`, `stage` and `action`."""
    update_batch(database, batch_id, guarded=True)
    with database.write() as connection:
        for guard in guards:
            connection.execute(insert(BatchGuard).values(batch_id=batch_id, **guard))


def verdict(guard: str, action: str = "pass", on: str = "input", **fields: Any) -> dict[str, Any]:
    """Return an object as in `job_results.guards`."""
    return {"guard": guard, "on": on, "action": action, **NO_VERDICT, **fields}
