"""Counters of a batch's guards change in the transaction that writes, copies or moves the results that they count.

Lock order: the caller has locked the batch's row, as for its other counters.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from sqlalchemy import Connection, text

from models.dialects.fragments import SqlFragments, comma_separated
from models.guards.definition import Guard
from models.guards.verdict import Verdict, VerdictAction

COUNTER_BY_ACTION: Mapping[VerdictAction, str] = {
    "pass": "passed",
    "flag": "flagged",
    "redact": "redacted",
    "fail": "blocked",
}
COUNTERS = tuple(COUNTER_BY_ACTION.values())

# The verdicts in the results `r`, one row for each: guard, stage and action.
VERDICTS = {
    "postgresql": """
SELECT r.batch_id, r.position, v.value ->> 'guard' AS guard, v.value ->> 'on' AS stage, v.value ->> 'action' AS action
FROM {results} r CROSS JOIN LATERAL jsonb_array_elements(r.guards) AS v (value) WHERE {condition}
""",
    "sqlite": """
SELECT r.batch_id, r.position, json_extract(v.value, '$.guard') AS guard, json_extract(v.value, '$.on') AS stage,
       json_extract(v.value, '$.action') AS action
FROM {results} r CROSS JOIN json_each(r.guards) AS v WHERE {condition}
""",
}

COUNT_BY_GUARD = ", ".join(
    f"count(CASE WHEN action = '{action}' THEN 1 END) AS {counter}" for action, counter in COUNTER_BY_ACTION.items()
)

MARK_GUARDED = "UPDATE batches SET guarded = true WHERE id = :batch_id AND NOT guarded"

# A worker may have a guard that the batch was not submitted with.
INSERT_GUARD = """
INSERT INTO batch_guards (batch_id, guard, stage, action) VALUES (:batch_id, :guard, :stage, :action)
ON CONFLICT (batch_id, guard) DO NOTHING
"""

ADD_VERDICTS = f"""
INSERT INTO batch_guards (batch_id, guard, stage, action, {", ".join(COUNTERS)}, device_seconds)
VALUES (:batch_id, :guard, :stage, :action, {", ".join(f":{counter}" for counter in COUNTERS)}, :device_seconds)
ON CONFLICT (batch_id, guard) DO UPDATE SET stage = excluded.stage, action = excluded.action,
    {", ".join(f"{counter} = batch_guards.{counter} + excluded.{counter}" for counter in COUNTERS)},
    device_seconds = batch_guards.device_seconds + excluded.device_seconds
"""  # noqa: S608

# The device time stays: it was spent.
SUBTRACT_RESULTS = f"""
UPDATE batch_guards SET {", ".join(f"{counter} = batch_guards.{counter} - n.{counter}" for counter in COUNTERS)}
FROM (SELECT guard, {COUNT_BY_GUARD} FROM ({{verdicts}}) AS verdicts GROUP BY guard) AS n
WHERE batch_guards.batch_id = :batch_id AND batch_guards.guard = n.guard
"""  # noqa: S608

# The copied results may have verdicts of guards that the submitter's catalogue lacks. Such a guard's action is the one
# which it had in the newest of the batches that the results come from.
ADD_REUSED = f"""
INSERT INTO batch_guards (batch_id, guard, stage, action, {", ".join(COUNTERS)})
SELECT :batch_id, n.guard, n.stage,
       coalesce((SELECT g.action FROM batch_guards g WHERE g.guard = n.guard AND g.batch_id IN ({{source_ids}})
                 ORDER BY g.batch_id DESC LIMIT 1), n.own_action, 'flag'),
       {", ".join(f"n.{counter}" for counter in COUNTERS)}
FROM (SELECT guard, min(stage) AS stage, max(CASE WHEN action <> 'pass' THEN action END) AS own_action, {COUNT_BY_GUARD}
      FROM ({{verdicts}}) AS verdicts GROUP BY guard) AS n
WHERE true
ON CONFLICT (batch_id, guard) DO UPDATE SET
    {", ".join(f"{counter} = batch_guards.{counter} + excluded.{counter}" for counter in COUNTERS)}
"""  # noqa: S608

OF_POSITIONS = "r.batch_id = :batch_id AND r.position {in_numbers}"
REUSED = "r.batch_id = :batch_id AND r.reused_from IS NOT NULL"


def insert_guards(connection: Connection, batch_id: str, guards: Mapping[str, Guard]) -> None:
    """Record the guards that each row of a batch must pass; those recorded already stay."""
    if not guards:
        return
    connection.execute(text(MARK_GUARDED), {"batch_id": batch_id})
    rows = [_guard_values(batch_id, name, guard) for name, guard in guards.items()]
    connection.execute(text(INSERT_GUARD), rows)


def add_verdicts(
    connection: Connection,
    batch_id: str,
    guards: Mapping[str, Guard],
    verdicts: Iterable[Sequence[Verdict]],
    seconds_by_guard: Iterable[Mapping[str, float] | None],
) -> None:
    """Count the verdicts of results that this transaction writes, and the device time of their guards."""
    counts = Counter((verdict.guard, verdict.action) for verdict in chain.from_iterable(verdicts))
    seconds = dict.fromkeys(guards, 0.0)
    for of_result in filter(None, seconds_by_guard):
        for name, spent in of_result.items():
            seconds[name] += spent
    rows = [
        {
            **_guard_values(batch_id, name, guard),
            **{counter: counts[name, action] for action, counter in COUNTER_BY_ACTION.items()},
            "device_seconds": seconds[name],
        }
        for name, guard in guards.items()
    ]
    connection.execute(text(ADD_VERDICTS), rows)


def subtract_results(connection: Connection, sql: SqlFragments, batch_id: str, positions: Iterable[int]) -> None:
    """Take back the verdicts of results that this transaction is about to move away."""
    verdicts = _verdicts_query(connection, OF_POSITIONS.format(in_numbers=sql.in_numbers))
    params = {"batch_id": batch_id, "numbers": comma_separated(positions)}
    connection.execute(text(SUBTRACT_RESULTS.format(verdicts=verdicts)), params)


def add_reused_results(connection: Connection, batch_id: str, source_ids: str) -> None:
    """Count the verdicts of results that this transaction has copied into a batch, and record their guards.

    source_ids: query for the ids of the batches that they were copied from.
    """
    params = {"batch_id": batch_id}
    statement = ADD_REUSED.format(verdicts=_verdicts_query(connection, REUSED), source_ids=source_ids)
    if connection.execute(text(statement), params).rowcount:
        connection.execute(text(MARK_GUARDED), params)


def _verdicts_query(connection: Connection, condition: str) -> str:
    return VERDICTS[connection.dialect.name].format(results="results", condition=condition)


def _guard_values(batch_id: str, name: str, guard: Guard) -> dict[str, Any]:
    return {"batch_id": batch_id, "guard": name, "stage": guard.on, "action": guard.action}
