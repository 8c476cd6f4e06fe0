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

from sqlalchemy import Connection, RootTransaction, Row, TextClause, bindparam, select, text

from models.db import Database
from models.dialects.fragments import SqlFragments
from models.documents import to_json
from models.guards.definition import Guard
from models.lifecycle import guard_counters
from models.tables.results import ModelVersion
from producer.submission.identity import cache_key
from producer.submission.open_submission import OpenSubmission
from producer.submission.request import SubmitRequest
from producer.submission.reuse.reuse_statements import (
    COPY_RESULTS,
    CREATE_REUSABLE,
    DROP_REUSABLE,
    INDEX_KNOWN_INPUTS,
    INSERT_REUSABLE,
    INSERT_SAME_ROWS,
    LOOKUP_SETTINGS,
    ON_COMMIT,
    PLANNER_SETTINGS,
    RESET_LOOKUP_SETTINGS,
    SELECT_CANDIDATES,
    SELECT_LARGEST,
    SELECT_LAST_VERSION,
    SELECT_SOURCES,
    SELECT_UNANSWERED_POSITIONS,
    SET_REVISION,
    WHERE_UNANSWERED,
)

MAX_CANDIDATES = 1_000
# The lookup ends after this many results of the newest batches: a multiple of the batch's jobs, with a minimum.
LOOKBACK_FACTOR, MIN_LOOKBACK_JOBS = 2, 1_000_000
MIN_GROUP_JOBS = 100_000  # compared in one statement, at least
POSITIONS_PER_PAGE = 20_000
# Older batches are searched by the jobs' ids: so many of the largest ones, with so many look-ups.
MAX_OLDER_BATCHES, MAX_LOOKUPS = 200, 5_000_000


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
        _apply_settings(self.connection, PLANNER_SETTINGS)
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
                "tenant": request.tenant,  # others must not learn that an input was seen before
                "output_cache_key": cache_key.output_cache_key(pipeline, parameters),
                "revision": revision,
                "limit": MAX_CANDIDATES,
            }
            candidates = connection.execute(text(SELECT_CANDIDATES), params).all()
            # A text that ran out of time may be longer next time.
            is_timed = pipeline.generation_limits is not None or parameters.get("max_time") is not None
            guards = to_json(cache_key.expected_verdicts(pipeline))
            lookup = {**params, "batch_id": submission.batch_id, "is_timed": is_timed, "guards": guards}
            lookup["version"] = _last_version(connection, candidates, pipeline.operator_code)
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

    lookup: the batch's id; `is_timed`: whether truncated results are left out; `guards`: the verdicts to have;
    `version`: the model version to have, None if there is none.
    """
    if lookup["version"] is None:
        return 0
    _apply_settings(connection, PLANNER_SETTINGS)
    total, searched = 0, [""]
    for group in _group_candidates(candidates, jobs):
        total += _match_group(connection, sql, {**lookup, "group": group})
        if total == jobs:
            return total
        searched += group
    return total + _match_older(connection, {**lookup, "excluded": searched}, jobs - total)


def _match_older(connection: Connection, lookup: dict[str, Any], jobs: int) -> int:
    """Match the remaining jobs with results of older batches for the same id and input; returns their number.

    Otherwise the rows of a large first batch would be forgotten once the batches after it have enough results.
    """
    limit = min(MAX_OLDER_BATCHES, max(MAX_LOOKUPS // jobs, 1))
    query = text(SELECT_LARGEST).bindparams(bindparam("excluded", expanding=True))
    group = connection.scalars(query, {**lookup, "limit": limit}).all()
    if not group:
        return 0
    dialect = connection.dialect.name
    _apply_settings(connection, LOOKUP_SETTINGS)
    insert = _bind_group(INSERT_SAME_ROWS[dialect])
    count = connection.execute(insert, {**lookup, "group": group}).rowcount
    _apply_settings(connection, RESET_LOOKUP_SETTINGS)
    return count


def _last_version(connection: Connection, candidates: Sequence[Row[Any]], code: Mapping[str, str | None]) -> int | None:
    """The model version that computed last; if all such results are deleted, the one of the newest batch.

    code: versions of the operator's code that it must have; a worker that was not restarted may have had others.
    """
    lookups = [(batch.id, False) for batch in candidates if batch.succeeded > batch.reused]
    lookups += [(batch.id, True) for batch in candidates[:1]]
    for batch_id, include_reused in lookups:
        params = {"batch_id": batch_id, "include_reused": include_reused}
        version: int | None = connection.scalar(text(SELECT_LAST_VERSION), params)
        if version is not None and _has_code(connection, version, code):
            return version
    return None


def _has_code(connection: Connection, version: int, code: Mapping[str, str | None]) -> bool:
    if not code:
        return True
    libraries = connection.scalar(select(ModelVersion.libraries).where(ModelVersion.id == version)) or {}
    return code.items() <= libraries.items()


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


def _apply_settings(connection: Connection, settings: Sequence[str]) -> None:
    for setting in settings if connection.dialect.name == "postgresql" else ():
        connection.execute(text(setting))


def _drop_statement(connection: Connection) -> TextClause:
    return text(DROP_REUSABLE.format(temporary="pg_temp" if connection.dialect.name == "postgresql" else "temp"))
