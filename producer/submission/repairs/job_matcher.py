"""The job matcher finds the failed job that each corrected row names."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from sqlalchemy import ColumnClause, Connection, Row, bindparam, column, text

from models.db import Database
from models.dialects.columns import Document
from models.dialects.fragments import comma_separated
from models.documents import to_json
from models.errors import JobError
from producer.readers.rows import Problem
from producer.submission.chunks import MAX_PROBLEMS, Chunk, JobChunker
from producer.submission.job_writer import IDS_PER_LOOKUP
from producer.submission.repairs.repaired_jobs import RepairedJob, StagedJobs

POSITIONS_PER_LOOKUP = 500  # of jobs that are read with their inputs
SELECT_FAILED_JOBS = """
SELECT j.position, j.custom_id, j.passthrough, j.source_batch_id, j.source_position FROM jobs j
JOIN results r ON r.batch_id = j.batch_id AND r.position = j.position
WHERE j.batch_id = :batch_id AND r.status = 'failed' AND {which}
"""
FAILED_JOB_COLUMNS: tuple[ColumnClause[Any], ...] = (
    column("position"),
    column("custom_id"),
    column("passthrough", Document),
    column("source_batch_id"),
    column("source_position"),
)
HAS_POSITION, HAS_ID = "j.position {in_numbers}", "j.custom_id IN :custom_ids"
SELECT_ID_OWNERS = """
SELECT custom_id, position FROM jobs WHERE batch_id = :batch_id AND custom_id IN :custom_ids AND NOT invalid
"""
# Jobs that an earlier repair by the same rows may have replaced. If a guard has redacted the input since, and the
# original was not kept, nothing is left to compare; then it counts that the job ran before.
SELECT_RUNNABLE_JOBS = """
SELECT j.position, j.custom_id,
       j.redacted AND j.original_input IS NULL AND EXISTS (
           SELECT 1 FROM superseded_results p WHERE p.batch_id = j.batch_id AND p.position = j.position) AS is_unknown,
       coalesce(j.original_input, j.input) AS input
FROM jobs j WHERE j.batch_id = :batch_id AND NOT j.invalid AND j.position {in_numbers}
"""


class _CorrectedRow(NamedTuple):
    """A row of the source; the input is JSON.

    columns: the passthrough columns that it has
    """

    location: int
    position: int | None
    custom_id: str | None
    input: str
    columns: dict[str, Any]


class JobMatcher:
    """Finds the failed job that each repaired row names."""

    def __init__(self, database: Database, batch_id: str, chunker: JobChunker, staged: StagedJobs) -> None:
        self._database = database
        self._batch_id = batch_id
        self._chunker = chunker
        self._staged = staged

    def stage(self, chunk: Chunk) -> None:
        """Stage a chunk's rows; raises InvalidRows naming those that can't replace a failed job."""
        rows = _corrected_rows(chunk)
        with self._database.read() as connection:
            by_position = self._find_by_position(connection, [row.position for row in rows])
            by_id = self._find_by_id(connection, SELECT_FAILED_JOBS.format(which=HAS_ID), chunk.custom_ids)
            kept_ids = {job.custom_id for job in by_position.values()}
            owners = self._find_by_id(connection, SELECT_ID_OWNERS, {*chunk.custom_ids, *kept_ids})
            unmatched = [
                row
                for row in rows
                if (row.custom_id not in by_id if row.position is None else row.position not in by_position)
            ]
            repaired_locations = self._find_repaired(connection, unmatched, owners)
        problems: list[Problem] = []
        for row in rows:
            if row.location in repaired_locations:
                continue
            try:
                failed = _only(by_id, row.custom_id) if row.position is None else by_position.get(row.position)
                job = _replacement(failed, row)
                _check_owner(owners, job)
                self._staged.add(job)
            except JobError as error:
                problems.append(Problem(row.location, str(error), error.code))
                if len(problems) == MAX_PROBLEMS:
                    break
        if problems:
            raise self._chunker.rejection_error(problems)

    def _find_repaired(
        self, connection: Connection, rows: list[_CorrectedRow], owners: Mapping[str, list[Row[Any]]]
    ) -> set[int]:
        """The locations of rows whose job has their input already: an interrupted repair can be repeated."""
        rows_by_position: dict[int, list[_CorrectedRow]] = {}
        for row in rows:
            named = [owner.position for owner in owners.get(row.custom_id or "", [])]
            for position in named if row.position is None else [row.position]:
                rows_by_position.setdefault(position, []).append(row)
        query = text(SELECT_RUNNABLE_JOBS.format(in_numbers=self._database.sql.in_numbers)).columns(
            column("position"), column("custom_id"), column("is_unknown"), column("input", Document)
        )
        positions = list(rows_by_position)
        locations: set[int] = set()
        for start in range(0, len(positions), POSITIONS_PER_LOOKUP):
            numbers = comma_separated(positions[start : start + POSITIONS_PER_LOOKUP])
            for job in connection.execute(query, {"batch_id": self._batch_id, "numbers": numbers}):
                locations.update(
                    row.location
                    for row in rows_by_position[job.position]
                    if (job.is_unknown or job.input == json.loads(row.input)) and row.custom_id in (None, job.custom_id)
                )
        return locations

    def _find_by_position(self, connection: Connection, positions: list[int | None]) -> dict[int, Row[Any]]:
        in_numbers = HAS_POSITION.format(in_numbers=self._database.sql.in_numbers)
        query = text(SELECT_FAILED_JOBS.format(which=in_numbers)).columns(*FAILED_JOB_COLUMNS)
        numbers = comma_separated(position for position in positions if position is not None)
        if not numbers:
            return {}
        rows = connection.execute(query, {"batch_id": self._batch_id, "numbers": numbers})
        return {row.position: row for row in rows}

    def _find_by_id(
        self, connection: Connection, statement: str, custom_ids: Iterable[str | None]
    ) -> dict[str, list[Row[Any]]]:
        """The rows of a statement for some ids, by id."""
        query: Any = text(statement).bindparams(bindparam("custom_ids", expanding=True))
        if "passthrough" in statement:
            query = query.columns(*FAILED_JOB_COLUMNS)
        ids = [custom_id for custom_id in custom_ids if custom_id is not None]
        rows_by_id: dict[str, list[Row[Any]]] = {}
        for start in range(0, len(ids), IDS_PER_LOOKUP):
            params = {"batch_id": self._batch_id, "custom_ids": ids[start : start + IDS_PER_LOOKUP]}
            for row in connection.execute(query, params):
                rows_by_id.setdefault(row.custom_id, []).append(row)
        return rows_by_id


def _corrected_rows(chunk: Chunk) -> list[_CorrectedRow]:
    rows = []
    columns = zip(chunk.locations, chunk.custom_ids, chunk.documents, chunk.passthroughs, strict=True)
    for location, custom_id, job_input, passthrough in columns:
        document = json.loads(passthrough or "{}")
        rows.append(_CorrectedRow(location, document["position"], custom_id, job_input, document["columns"]))
    return rows


def _only(failed_by_id: Mapping[str, list[Row[Any]]], custom_id: str | None) -> Row[Any] | None:
    failed = failed_by_id.get(custom_id or "", [])
    if len(failed) > 1:
        raise JobError(
            "duplicate_id", f"has the id of {len(failed)} failed jobs; say which one it repairs, by a column position"
        )
    return failed[0] if failed else None


def _replacement(failed: Row[Any] | None, row: _CorrectedRow) -> RepairedJob:
    if failed is None:
        name = f"at position {row.position}" if row.position is not None else f"with the id {str(row.custom_id)[:80]!r}"
        raise JobError("invalid_row", f"repairs no failed job: there is none {name}")
    passthrough = failed.passthrough
    if row.columns:
        passthrough = dict(passthrough or {}) | {
            name: value for name, value in row.columns.items() if not _is_same((passthrough or {}).get(name), value)
        }
    kept = None if passthrough is None else to_json(passthrough)
    origin = failed.source_batch_id, failed.source_position
    return RepairedJob(failed.position, row.custom_id or failed.custom_id, row.input, kept, *origin)


def _is_same(old: object, new: object) -> bool:
    """Whether a column has not changed, although an exported table has other values than texts as JSON."""
    if new == old or (old is None and new == ""):
        return True
    if isinstance(old, str) or not isinstance(new, str):
        return False
    try:
        return bool(json.loads(new) == old)
    except (ValueError, RecursionError):
        return False


def _check_owner(owners: Mapping[str, list[Row[Any]]], job: RepairedJob) -> None:
    for owner in owners.get(job.custom_id or "", []):
        if owner.position != job.position:
            raise JobError(
                "duplicate_id",
                f"has custom_id {str(job.custom_id)[:80]!r}, which the job at position {owner.position} has already",
            )
