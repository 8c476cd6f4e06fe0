"""Reuse: results that earlier batches have for the same input, by the same model, taken instead of computed again.

They are looked for once all jobs are in, in a transaction that only reads, and taken in the one that accepts the batch;
on PostgreSQL those are one, since a pooler may give the next one another session. There it locks nothing until then.
What is found stands in a temporary table, so memory does not grow with the batch. All that is taken was made by one
model version: the one that computed last.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, RootTransaction, Row, TextClause, bindparam, text

from models.db import Database, SqlFragments
from producer.submission import cache_key
from producer.submission.open_submission import OpenSubmission
from producer.submission.request import SubmitRequest

MAX_CANDIDATES = 1_000
# How far back to look, the newest batches first: so many times the batch's own jobs, and at least so many.
LOOKBACK_FACTOR, MIN_LOOKBACK_JOBS = 2, 1_000_000
MIN_GROUP_JOBS = 100_000  # looked through at once, at least
POSITIONS_PER_PAGE = 20_000

SELECT_CANDIDATES = """
SELECT id, succeeded, reused FROM batches
WHERE recipe = :recipe AND revision = :revision AND status NOT IN ('validating', 'deleting') AND succeeded > 0
ORDER BY created_at DESC, id DESC LIMIT :most
"""

SELECT_LAST_VERSION = """
SELECT model_version_id FROM results
WHERE batch_id = :batch_id AND status = 'succeeded' AND (reused_from IS NULL OR :any) ORDER BY seq DESC LIMIT 1
"""

DROP_REUSABLE = "DROP TABLE IF EXISTS {temporary}.reusable"

CREATE_REUSABLE = """
CREATE TEMPORARY TABLE reusable (position BIGINT PRIMARY KEY, from_batch TEXT NOT NULL, from_position BIGINT NOT NULL)
{on_commit}"""
ON_COMMIT = {"postgresql": "ON COMMIT DROP", "sqlite": ""}

# What the rows of a new batch look like no statistics say yet, and one loop within another would never end.
PLANNER_SETTINGS = ("SET LOCAL enable_nestloop = off", "SET LOCAL work_mem = '64MB'")

# The jobs for which one is wanted: not those that failed as invalid, nor those for which one is found.
WHERE_UNANSWERED = """
WHERE n.batch_id = :batch_id AND n.input <> {no_input}
  AND NOT EXISTS (SELECT 1 FROM results x WHERE x.batch_id = :batch_id AND x.position = n.position)
  AND NOT EXISTS (SELECT 1 FROM reusable u WHERE u.position = n.position)
"""

# Python's own hash of a text, which may collide: what it finds is compared. CROSS JOIN keeps SQLite to the order.
INDEX_KNOWN_INPUTS = {
    "postgresql": (),
    "sqlite": (
        "DROP TABLE IF EXISTS temp.known",
        "CREATE TEMPORARY TABLE known (digest INTEGER PRIMARY KEY, batch_id TEXT, position INTEGER)",
        """
INSERT OR IGNORE INTO known SELECT digest(j.input), j.batch_id, j.position
FROM results r CROSS JOIN jobs j ON j.batch_id = r.batch_id AND j.position = r.position
WHERE r.batch_id IN :group AND r.status = 'succeeded' AND r.model_version_id = :version
""",
    ),
}

# By a hash, since comparing long documents would unpack them again and again; one that has no collisions.
INSERT_REUSABLE = {
    "postgresql": """
INSERT INTO reusable (position, from_batch, from_position)
SELECT n.position, o.batch_id, o.position
FROM jobs n
JOIN (SELECT DISTINCT ON (digest) digest, batch_id, position FROM (
          SELECT sha256(convert_to(CAST(j.input AS TEXT), 'UTF8')) AS digest, j.batch_id, j.position
          FROM jobs j JOIN results r ON r.batch_id = j.batch_id AND r.position = j.position
          WHERE j.batch_id IN :group AND r.batch_id IN :group
            AND r.status = 'succeeded' AND r.model_version_id = :version) AS old
      ORDER BY digest) AS o
  ON o.digest = sha256(convert_to(CAST(n.input AS TEXT), 'UTF8'))
""",
    "sqlite": """
INSERT INTO reusable (position, from_batch, from_position)
SELECT n.position, k.batch_id, k.position
FROM jobs n CROSS JOIN known k ON k.digest = digest(n.input)
CROSS JOIN jobs j ON j.batch_id = k.batch_id AND j.position = k.position AND j.input = n.input
""",
}

# An answer that was itself reused names the batch that computed it. One that was deleted meanwhile is not taken.
COPY_RESULTS = """
INSERT INTO results (batch_id, position, seq, status, output, truncated, attempts, model_version_id, reused_from)
SELECT :batch_id, f.position, :last_seq + row_number() OVER (ORDER BY f.position), r.status, r.output, r.truncated, 0,
       r.model_version_id, coalesce(r.reused_from, r.batch_id)
FROM reusable f CROSS JOIN results r
WHERE r.batch_id = f.from_batch AND r.position = f.from_position AND r.status = 'succeeded'
"""

SET_REVISION = "UPDATE batches SET revision = :revision WHERE id = :batch_id"

SELECT_UNANSWERED_POSITIONS = """
SELECT j.position FROM jobs j
WHERE j.batch_id = :batch_id AND j.position > :after
  AND NOT EXISTS (SELECT 1 FROM results r WHERE r.batch_id = j.batch_id AND r.position = j.position)
ORDER BY j.position LIMIT :most
"""


@dataclass(frozen=True, slots=True)
class ReusableResults:
    """What was found for a batch; `obstacle` says why nothing was looked for, where that is so."""

    connection: Connection
    batch_id: str
    revision: str | None = None
    not_cacheable_because: str | None = None
    count: int = 0

    def begin(self) -> RootTransaction:
        """The transaction that accepts the batch."""
        return self.connection.get_transaction() or self.connection.begin()

    def insert(self, last_seq: int) -> int:
        """Insert the results into the batch, whose row is locked, behind those up to `last_seq`; returns how many.

        For the transaction that accepts it, on the same connection. The batch's counters are left to that.
        """
        if not self.count:
            return 0
        _apply_planner_settings(self.connection)
        named = {"batch_id": self.batch_id, "last_seq": last_seq}
        taken = self.connection.execute(text(COPY_RESULTS), named).rowcount
        if taken:  # only then is it known that workers have this revision
            self.connection.execute(text(SET_REVISION), {"batch_id": self.batch_id, "revision": self.revision})
        return taken


@contextmanager
def find_reusable(
    database: Database, submission: OpenSubmission, request: SubmitRequest, jobs: int
) -> Iterator[ReusableResults]:
    """Look for what a batch of so many jobs can reuse, all of which are in; `begin` comes next."""
    pipeline, parameters = request.pipeline, request.parameters
    revision, obstacle = cache_key.resolve_revision(pipeline), cache_key.not_cacheable_because(pipeline, parameters)
    if revision is None and obstacle is None:
        obstacle = f"pipeline {pipeline.name} does not pin its model's revision"
    with database.session() as connection:
        if obstacle is not None:
            yield ReusableResults(connection, submission.batch_id, not_cacheable_because=obstacle)
            return
        with _temp_table_transaction(connection):
            connection.execute(_drop_statement(connection))
            connection.execute(text(CREATE_REUSABLE.format(on_commit=ON_COMMIT[connection.dialect.name])))
            named = {
                "recipe": cache_key.output_cache_key(pipeline, parameters),
                "revision": revision,
                "most": MAX_CANDIDATES,
            }
            candidates = connection.execute(text(SELECT_CANDIDATES), named).all()
            count = _fill_reusable_table(connection, database.sql, submission.batch_id, candidates, jobs)
        yield ReusableResults(connection, submission.batch_id, revision, count=count)
        with _temp_table_transaction(connection):
            connection.execute(_drop_statement(connection))


def unanswered_positions(connection: Connection, batch_id: str) -> Iterator[Sequence[int]]:
    """The jobs that have no result, some thousands at a time, in order."""
    named = {"batch_id": batch_id, "after": -1, "most": POSITIONS_PER_PAGE}
    while positions := connection.scalars(text(SELECT_UNANSWERED_POSITIONS), named).all():
        yield positions
        named["after"] = positions[-1]


@contextmanager
def _temp_table_transaction(connection: Connection) -> Iterator[None]:
    """A transaction that writes to temporary tables alone: SQLite's other writers go on."""
    if connection.dialect.name == "postgresql":
        if not connection.in_transaction():
            connection.begin()
        yield
        return
    connection.execution_options(read_only=True)
    with connection.begin():
        yield
    connection.execution_options(read_only=False)


def _fill_reusable_table(
    connection: Connection, sql: SqlFragments, batch_id: str, candidates: Sequence[Row[Any]], jobs: int
) -> int:
    """Fill the temporary table; returns how many of the jobs it has."""
    version = _last_version(connection, candidates)
    if version is None:
        return 0
    _apply_planner_settings(connection)
    total = 0
    for group in _group_candidates(candidates, jobs):
        total += _match_group(connection, sql, {"batch_id": batch_id, "group": group, "version": version})
        if total == jobs:
            break
    return total


def _last_version(connection: Connection, candidates: Sequence[Row[Any]]) -> int | None:
    """The model version that computed last; where all of that is deleted, the one of the newest results."""
    computed = [one.id for one in candidates if one.succeeded > one.reused]
    for batch_id, either in [*((one, False) for one in computed), *((one.id, True) for one in candidates[:1])]:
        version: int | None = connection.scalar(text(SELECT_LAST_VERSION), {"batch_id": batch_id, "any": either})
        if version is not None:
            return version
    return None


def _group_candidates(candidates: Sequence[Row[Any]], jobs: int) -> Iterator[list[str]]:
    """The candidates in their order, half as many results at a time as the batch has jobs, until it is enough."""
    group: list[str] = []
    within, seen = 0, 0
    for one in candidates:
        group.append(one.id)
        within, seen = within + one.succeeded, seen + one.succeeded
        if within >= max(jobs // 2, MIN_GROUP_JOBS):
            yield group
            group, within = [], 0
        if seen >= max(LOOKBACK_FACTOR * jobs, MIN_LOOKBACK_JOBS):
            break
    if group:
        yield group


def _match_group(connection: Connection, sql: SqlFragments, params: dict[str, Any]) -> int:
    dialect = connection.dialect.name
    if dialect == "sqlite":
        driver: Any = connection.connection.driver_connection
        driver.create_function("digest", 1, hash, deterministic=True)
    for statement in INDEX_KNOWN_INPUTS[dialect]:
        connection.execute(_bind_group(statement), params)
    return connection.execute(
        _bind_group(INSERT_REUSABLE[dialect] + WHERE_UNANSWERED.format(no_input=sql.empty_document)), params
    ).rowcount


def _bind_group(statement: str) -> TextClause:
    query = text(statement)
    return query.bindparams(bindparam("group", expanding=True)) if ":group" in statement else query


def _apply_planner_settings(connection: Connection) -> None:
    for setting in PLANNER_SETTINGS if connection.dialect.name == "postgresql" else ():
        connection.execute(text(setting))


def _drop_statement(connection: Connection) -> TextClause:
    return text(DROP_REUSABLE.format(temporary="pg_temp" if connection.dialect.name == "postgresql" else "temp"))
