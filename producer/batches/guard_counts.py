"""The rows that each guard of a batch passed, flagged, redacted and blocked, and the device time that it took."""

from collections.abc import Iterable

from sqlalchemy import Connection, bindparam, text

from producer.batches.batch_view import GuardCounts

# Guards of inputs first, as they run; a batch has at most a few, and only guarded batches are asked for.
SELECT_GUARDS = """
SELECT batch_id, guard, stage, action, passed, flagged, redacted, blocked, device_seconds
FROM batch_guards WHERE batch_id IN :batch_ids ORDER BY batch_id, stage, guard
"""


def count_by_batch(connection: Connection, batch_ids: Iterable[str]) -> dict[str, tuple[GuardCounts, ...]]:
    """Return the guards of these batches; a batch without guards is left out."""
    batch_ids = list(batch_ids)
    if not batch_ids:
        return {}
    query = text(SELECT_GUARDS).bindparams(bindparam("batch_ids", expanding=True))
    found: dict[str, list[GuardCounts]] = {}
    for batch_id, *values in connection.execute(query, {"batch_ids": batch_ids}):
        found.setdefault(batch_id, []).append(GuardCounts(*values))
    return {batch_id: tuple(guards) for batch_id, guards in found.items()}
