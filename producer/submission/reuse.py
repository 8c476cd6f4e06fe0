"""Reuse copies results that earlier batches have for the same inputs by the same model, instead of computing them.

The results are looked up once all jobs are ingested, in a transaction that only reads, and copied in the one that
accepts the batch. On PostgreSQL these are one transaction, because a pooler may give the next one another session; it
locks nothing before the copy. The matches are in a temporary table, so memory does not grow with the batch. All copied
results were made by one model version: the one that computed last.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, RootTransaction, Row, TextClause, bindparam, text

from models.db import Database, SqlFragments
from models.documents import to_json
from models.guards.definition import Guard
from models.lifecycle import guard_counters, slices
from producer.submission import cache_key
from producer.submission.open_submission import OpenSubmission
from producer.submission.request import SubmitRequest

MAX_CANDIDATES = 1_000
# The lookup ends after this many results of the newest batches: a multiple of the batch's jobs, with a minimum.
LOOKBACK_FACTOR, MIN_LOOKBACK_JOBS = 2, 1_000_000
MIN_GROUP_JOBS = 100_000  # compared in one statement, at least
POSITIONS_PER_PAGE = 20_000

SELECT_CANDIDATES = """
SELECT id, succeeded, reused FROM batches
WHERE output_cache_key = :output_cache_key AND revision = :revision AND status NOT IN ('validating', 'deleting')
  AND succeeded > 0
ORDER BY created_at DESC, id DESC LIMIT :limit
"""

SELECT_LAST_VERSION = """
SELECT model_version_id FROM results
WHERE batch_id = :batch_id AND status = 'succeeded' AND (reused_from IS NULL OR :include_reused)
ORDER BY seq DESC LIMIT 1
"""

DROP_REUSABLE = "DROP TABLE IF EXISTS {temporary}.reusable"

CREATE_REUSABLE = """
CREATE TEMPORARY TABLE reusable (position BIGINT PRIMARY KEY, from_batch TEXT NOT NULL, from_position BIGINT NOT NULL)
{on_commit}"""
ON_COMMIT = {"postgresql": "ON COMMIT DROP", "sqlite": ""}

# There are no statistics on a new batch's rows yet, and a nested loop over them would not end.
PLANNER_SETTINGS = ("SET LOCAL enable_nestloop = off", "SET LOCAL work_mem = '64MB'")

# The jobs that need a result: those that were invalid have one, and others may have a match already.
WHERE_UNANSWERED = """
WHERE n.batch_id = :batch_id AND NOT n.invalid
  AND NOT EXISTS (SELECT 1 FROM results x WHERE x.batch_id = :batch_id AND x.position = n.position)
  AND NOT EXISTS (SELECT 1 FROM reusable u WHERE u.position = n.position)
"""

# The guards that read a result are those of now, by definition and model; a worker that was not restarted may have had
# others of the same names.
HAS_GUARDS = {
    "postgresql": "(CAST(:guards AS TEXT) = '[]' OR r.guards @> CAST(:guards AS JSONB))",
    "sqlite": """
NOT EXISTS (SELECT 1 FROM json_each(:guards) e WHERE NOT EXISTS (
    SELECT 1 FROM json_each(r.guards) g
    WHERE json_extract(g.value, '$.guard') = json_extract(e.value, '$.guard')
      AND json_extract(g.value, '$.definition') = json_extract(e.value, '$.definition')
      AND json_extract(g.value, '$.revision') IS json_extract(e.value, '$.revision')))
""",
}

# A redacted job has another input than the one that was submitted, so its result answers no other job.
# `digest` is Python's hash of a text, which may collide, so inputs are compared too. CROSS JOIN keeps SQLite's order.
INDEX_KNOWN_INPUTS = {
    "postgresql": (),
    "sqlite": (
        "DROP TABLE IF EXISTS temp.known",
        "CREATE TEMPORARY TABLE known (digest INTEGER PRIMARY KEY, batch_id TEXT, position INTEGER)",
        f"""
INSERT OR IGNORE INTO known SELECT digest(j.input), j.batch_id, j.position
FROM results r CROSS JOIN jobs j ON j.batch_id = r.batch_id AND j.position = r.position
WHERE r.batch_id IN :group AND r.status = 'succeeded' AND r.model_version_id = :version AND NOT j.redacted
  AND NOT (r.truncated AND :is_timed) AND {HAS_GUARDS["sqlite"]}
""",  # noqa: S608
    ),
}

# PostgreSQL compares hashes without collisions: comparing long documents would decompress them again and again.
INSERT_REUSABLE = {
    "postgresql": f"""
INSERT INTO reusable (position, from_batch, from_position)
SELECT n.position, o.batch_id, o.position
FROM jobs n
JOIN (SELECT DISTINCT ON (digest) digest, batch_id, position FROM (
          SELECT sha256(convert_to(CAST(j.input AS TEXT), 'UTF8')) AS digest, j.batch_id, j.position
          FROM jobs j JOIN results r ON r.batch_id = j.batch_id AND r.position = j.position
          WHERE j.batch_id IN :group AND r.batch_id IN :group
            AND r.status = 'succeeded' AND r.model_version_id = :version AND NOT j.redacted
            AND NOT (r.truncated AND :is_timed) AND {HAS_GUARDS["postgresql"]}) AS old
      ORDER BY digest) AS o
  ON o.digest = sha256(convert_to(CAST(n.input AS TEXT), 'UTF8'))
""",  # noqa: S608
    "sqlite": """
INSERT INTO reusable (position, from_batch, from_position)
SELECT n.position, k.batch_id, k.position
FROM jobs n CROSS JOIN known k ON k.digest = digest(n.input)
CROSS JOIN jobs j ON j.batch_id = k.batch_id AND j.position = k.position AND j.input = n.input
""",
}

# A copy of a reused result names the batch that computed it. Results deleted since the lookup are not copied.
COPY_RESULTS = """
INSERT INTO results (batch_id, position, seq, status, output, truncated, attempts, model_version_id, reused_from,
                     windows, guards, vector)
SELECT :batch_id, f.position, :last_seq + row_number() OVER (ORDER BY f.position), r.status, r.output, r.truncated, 0,
       r.model_version_id, coalesce(r.reused_from, r.batch_id), r.windows, r.guards, r.vector
FROM reusable f CROSS JOIN results r
WHERE r.batch_id = f.from_batch AND r.position = f.from_position AND r.status = 'succeeded'
"""

SELECT_SOURCES = "SELECT from_batch FROM reusable"

SET_REVISION = "UPDATE batches SET revision = :revision WHERE id = :batch_id"

SELECT_UNANSWERED_POSITIONS = f"""
SELECT j.position FROM jobs j
WHERE j.batch_id = :batch_id AND j.position > :after AND {slices.IS_UNANSWERED}
ORDER BY j.position LIMIT :limit
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class ReusableResults:
    """The results that a batch can copy.

    not_cacheable_because: the reason why none were looked up; None = they were.
    guards: those of the pipeline, whose verdicts the results have.
    """

    connection: Connection
    batch_id: str
    revision: str | None = None
    not_cacheable_because: str | None = None
    count: int = 0
    guards: Mapping[str, Guard] = field(default_factory=dict)

    def begin(self) -> RootTransaction:
        """Begin, or continue, the transaction that accepts the batch."""
        return self.connection.get_transaction() or self.connection.begin()

    def insert(self, last_seq: int) -> int:
        """Copy the results into the batch, after those up to `last_seq`; returns their number.

        The caller has locked the batch's row in the transaction that accepts it, and updates the counters.
        """
        if not self.count:
            return 0
        _apply_planner_settings(self.connection)
        params = {"batch_id": self.batch_id, "last_seq": last_seq, "revision": self.revision}
        copied = self.connection.execute(text(COPY_RESULTS), params).rowcount
        if copied:  # only then is it certain that workers use this revision
            self.connection.execute(text(SET_REVISION), params)
            guard_counters.insert_guards(self.connection, self.batch_id, self.guards)
            guard_counters.add_reused_results(self.connection, self.batch_id, SELECT_SOURCES)
        return copied


@contextmanager
def find_reusable(
    database: Database, submission: OpenSubmission, request: SubmitRequest, jobs: int
) -> Iterator[ReusableResults]:
    """Look up the results that a fully ingested batch of this many jobs can copy; `begin` is called next."""
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
            params = {
                "output_cache_key": cache_key.output_cache_key(pipeline, parameters),
                "revision": revision,
                "limit": MAX_CANDIDATES,
            }
            candidates = connection.execute(text(SELECT_CANDIDATES), params).all()
            # A text that ran out of time may be longer next time.
            is_timed = pipeline.generation_limits is not None or parameters.get("max_time") is not None
            guards = to_json(cache_key.expected_verdicts(pipeline))
            lookup = {"batch_id": submission.batch_id, "is_timed": is_timed, "guards": guards}
            count = _fill_reusable_table(connection, database.sql, lookup, candidates, jobs)
        yield ReusableResults(connection, submission.batch_id, revision, count=count, guards=pipeline.guards)
        with _temp_table_transaction(connection):
            connection.execute(_drop_statement(connection))


def unanswered_positions(connection: Connection, batch_id: str) -> Iterator[Sequence[int]]:
    """The positions of the jobs that have no result, in order, page by page."""
    params = {"batch_id": batch_id, "after": -1, "limit": POSITIONS_PER_PAGE}
    while positions := connection.scalars(text(SELECT_UNANSWERED_POSITIONS), params).all():
        yield positions
        params["after"] = positions[-1]


@contextmanager
def _temp_table_transaction(connection: Connection) -> Iterator[None]:
    """A transaction that writes only to temporary tables, so that it does not block SQLite's other writers."""
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
    connection: Connection, sql: SqlFragments, lookup: Mapping[str, Any], candidates: Sequence[Row[Any]], jobs: int
) -> int:
    """Fill the temporary table; returns the number of matched jobs.

    lookup: the batch's id; `is_timed`: whether truncated results are left out; `guards`: the verdicts to have.
    """
    version = _last_version(connection, candidates)
    if version is None:
        return 0
    _apply_planner_settings(connection)
    total = 0
    for group in _group_candidates(candidates, jobs):
        total += _match_group(connection, sql, {**lookup, "group": group, "version": version})
        if total == jobs:
            break
    return total


def _last_version(connection: Connection, candidates: Sequence[Row[Any]]) -> int | None:
    """The model version that computed last; if all such results are deleted, the one of the newest batch."""
    lookups = [(batch.id, False) for batch in candidates if batch.succeeded > batch.reused]
    lookups += [(batch.id, True) for batch in candidates[:1]]
    for batch_id, include_reused in lookups:
        params = {"batch_id": batch_id, "include_reused": include_reused}
        version: int | None = connection.scalar(text(SELECT_LAST_VERSION), params)
        if version is not None:
            return version
    return None


def _group_candidates(candidates: Sequence[Row[Any]], jobs: int) -> Iterator[list[str]]:
    """The candidates in order, in groups of half as many results as the batch has jobs, up to the lookback."""
    group: list[str] = []
    group_results, all_results = 0, 0
    for batch in candidates:
        group.append(batch.id)
        group_results, all_results = group_results + batch.succeeded, all_results + batch.succeeded
        if group_results >= max(jobs // 2, MIN_GROUP_JOBS):
            yield group
            group, group_results = [], 0
        if all_results >= max(LOOKBACK_FACTOR * jobs, MIN_LOOKBACK_JOBS):
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
    return connection.execute(_bind_group(INSERT_REUSABLE[dialect] + WHERE_UNANSWERED), params).rowcount


def _bind_group(statement: str) -> TextClause:
    query = text(statement)
    return query.bindparams(bindparam("group", expanding=True)) if ":group" in statement else query


def _apply_planner_settings(connection: Connection) -> None:
    for setting in PLANNER_SETTINGS if connection.dialect.name == "postgresql" else ():
        connection.execute(text(setting))


def _drop_statement(connection: Connection) -> TextClause:
    return text(DROP_REUSABLE.format(temporary="pg_temp" if connection.dialect.name == "postgresql" else "temp"))
