"""Consistency checks: which jobs were lost, written twice or computed wrongly, from the rows alone."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import text

from models import vectors
from producer.health import audit
from tests.soak import fake_device
from tests.soak.cluster import Cluster
from tests.soak.faults import WorkerKill
from tests.soak.producer import FAKE_PIPELINE, FAKE_PIPELINES, VECTOR_PIPELINE

SCORE_TOLERANCE = 1e-4  # between a score from a full micro-batch and one of a text alone, as in the conformance tests
MAX_EXAMPLES = 10

SELECT_LOST_JOBS = """
SELECT j.batch_id, j.position FROM jobs j JOIN batches b ON b.id = j.batch_id
WHERE b.status NOT IN ('validating', 'in_progress', 'cancelling', 'deleting')
  AND NOT EXISTS (SELECT 1 FROM results r WHERE r.batch_id = j.batch_id AND r.position = j.position)
"""

SELECT_DUPLICATE_SEQS = """
SELECT batch_id, seq, count(*) AS times FROM (
    SELECT batch_id, seq FROM results UNION ALL SELECT batch_id, seq FROM superseded_results
) AS written GROUP BY batch_id, seq HAVING count(*) > 1
"""

# Results and those that retries superseded; a batch that failed as a whole has computed nothing.
SELECT_RESULTS = """
SELECT b.pipeline, r.batch_id, r.position, r.status, r.output, r.vector, r.error_code, j.input FROM (
    SELECT batch_id, position, status, output, vector, error_code FROM results
    UNION ALL SELECT batch_id, position, status, output, vector, error_code FROM superseded_results
) AS r JOIN batches b ON b.id = r.batch_id JOIN jobs j ON j.batch_id = r.batch_id AND j.position = r.position
"""

# Results that were written under a claim after another process had ended it.
SELECT_STALE_WRITES = """
SELECT r.batch_id, r.position, a.outcome FROM (
    SELECT batch_id, position, slice_id, fencing_token, finished_at FROM results
    UNION ALL SELECT batch_id, position, slice_id, fencing_token, finished_at FROM superseded_results
) AS r JOIN attempts a ON a.batch_id = r.batch_id AND a.slice_id = r.slice_id AND a.fencing_token = r.fencing_token
WHERE a.outcome NOT IN ('done', 'retried') AND r.finished_at > a.ended_at
"""

# A claim has one outcome, except that deferred jobs have one each.
SELECT_MULTIPLE_OUTCOMES = """
SELECT slice_id, fencing_token, count(DISTINCT outcome) AS outcomes, count(*) AS times FROM attempts
GROUP BY slice_id, fencing_token
HAVING count(DISTINCT outcome) > 1 OR (min(outcome) <> 'retried' AND count(*) > 1)
"""

SELECT_BAD_ATTEMPT_NUMBERS = (
    "SELECT slice_id, fencing_token, attempt, outcome FROM attempts WHERE attempt < 1 OR attempt > fencing_token"
)

SELECT_CLAIMS = """
SELECT slice_id, fencing_token, claimed_at, ended_at, outcome FROM attempts WHERE slice_id IN ({ids})
UNION ALL
SELECT id, fencing_token, leased_at, NULL, 'held' FROM slices WHERE id IN ({ids}) AND leased_at IS NOT NULL
"""

FORBIDDEN_ERROR_CODES = ("worker_crashed", "forward_timeout")
ABORTED_SUBMISSIONS = ("submission_abandoned", "source_failed")  # their batches were not reported as accepted
EXPECTED_ERRORS = {  # codes with which jobs may fail, and the texts that may
    "model_error": fake_device.is_invalid,
    "unavailable": fake_device.is_transient,
}


@dataclass
class ConsistencyReport:
    """Counts, and a sentence for each kind of violation."""

    batches: int = 0
    jobs: int = 0
    vectors: int = 0
    lost: int = 0
    duplicated: int = 0
    wrong: int = 0
    violations: list[str] = field(default_factory=list)

    def add_violations(self, kind: str, examples: Sequence[Any]) -> int:
        """Record violations of one kind; returns their number."""
        if examples:
            self.violations.append(f"{kind}, {len(examples):,}: {'; '.join(map(str, examples[:MAX_EXAMPLES]))}")
        return len(examples)


def run_checks(cluster: Cluster, expected: Mapping[str, Mapping[str, Any]]) -> ConsistencyReport:
    """Return all violations; `expected` has the real model's output for each of its texts."""
    report = ConsistencyReport()
    [counts] = cluster.query("SELECT count(*) AS batches, coalesce(sum(total), 0) AS jobs FROM batches")
    report.batches, report.jobs = counts.batches, counts.jobs
    report.vectors = cluster.query("SELECT count(vector) AS vectors FROM results")[0].vectors
    report.lost = report.add_violations("lost: unanswered in an ended batch", cluster.query(SELECT_LOST_JOBS))
    report.lost += report.add_violations(
        "lost: accepted, but not in the database", list(_find_missing_batches(cluster))
    )
    report.duplicated = report.add_violations("twice: the same seq", cluster.query(SELECT_DUPLICATE_SEQS))
    report.duplicated += report.add_violations(
        "twice: written under an ended claim", cluster.query(SELECT_STALE_WRITES)
    )
    report.add_violations("claims with several outcomes", cluster.query(SELECT_MULTIPLE_OUTCOMES))
    report.add_violations("attempt numbers", cluster.query(SELECT_BAD_ATTEMPT_NUMBERS))
    report.wrong = report.add_violations("wrong", list(_find_wrong_results(cluster, expected)))
    problems = [
        (audited.batch_id, problem.code, problem.message, problem.places)
        for audited in audit.audit_all(cluster.database, cluster.settings.lease_seconds)
        for problem in audited.problems
    ]
    report.add_violations("found by the audit", problems)
    report.add_violations("unexpected ends", cluster.unexpected_exits)
    report.add_violations(
        "crashes in logs", [line[:1500] for line in cluster.log.splitlines() if _is_unhandled_error(line)]
    )
    return report


def _is_unhandled_error(line: str) -> bool:
    return ".crashed" in line or "Traceback" in line


def _find_missing_batches(cluster: Cluster) -> Iterator[Any]:
    totals = {row.id: row.total for row in cluster.query("SELECT id, total FROM batches")}
    for line in cluster.accepted_file.read_text().splitlines():
        accepted = json.loads(line)
        if totals.get(accepted["id"]) != accepted["jobs"]:
            yield accepted, totals.get(accepted["id"])


def _find_wrong_results(cluster: Cluster, expected: Mapping[str, Mapping[str, Any]]) -> Iterator[Any]:
    with cluster.database.read() as connection:
        rows = connection.execution_options(yield_per=10_000).execute(text(SELECT_RESULTS))
        for row in rows:
            job_input, output = _parse_json(row.input), _parse_json(row.output)
            if not _is_right(row, job_input.get("text"), output, expected):
                yield row.batch_id, row.position, row.status, row.error_code, output, job_input


def _is_right(row: Any, input_text: str | None, output: Any, expected: Mapping[str, Mapping[str, Any]]) -> bool:
    if row.status == "succeeded":
        assert input_text is not None
        if row.pipeline == FAKE_PIPELINE:
            return output == fake_device.expected_output(input_text) and not fake_device.is_invalid(input_text)
        if row.pipeline == VECTOR_PIPELINE:
            vector = row.vector if isinstance(row.vector, bytes) else vectors.from_numbers(row.vector)
            return vector == fake_device.expected_vector(input_text) and not fake_device.is_invalid(input_text)
        return output["label"] == expected[input_text]["label"] and math.isclose(
            output["score"], expected[input_text]["score"], abs_tol=SCORE_TOLERANCE
        )
    if row.status != "failed" or not isinstance(input_text, str) or row.error_code in ABORTED_SUBMISSIONS:
        return row.error_code not in FORBIDDEN_ERROR_CODES
    return (
        row.pipeline in FAKE_PIPELINES
        and row.error_code in EXPECTED_ERRORS
        and EXPECTED_ERRORS[row.error_code](input_text)
    )


def _parse_json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value or {}


@dataclass(frozen=True, slots=True)
class RecoveryTimes:
    """Seconds from a kill until the worker's last slice was requeued, and until another worker claimed it."""

    release_seconds: list[float]
    reclaim_seconds: list[float]


def measure_recovery(cluster: Cluster, kills: Sequence[WorkerKill]) -> RecoveryTimes:
    """Measure each kill; slices that were done or split meanwhile have no other claim."""
    ids = {slice_id for kill in kills for slice_id, _ in kill.held_slices}
    if not ids:
        return RecoveryTimes([], [])
    claims: dict[int, list[Any]] = {}
    for row in cluster.query(SELECT_CLAIMS.format(ids=", ".join(map(str, sorted(ids))))):
        claims.setdefault(row.slice_id, []).append(row)
    release_seconds, reclaim_seconds = [], []
    for kill in kills:
        of_kill = [(fence, claims.get(slice_id, [])) for slice_id, fence in kill.held_slices]
        ends = [
            _seconds_after_kill(row.ended_at, kill)
            for fence, rows in of_kill
            for row in rows
            if row.fencing_token == fence and row.ended_at and row.outcome in ("killed", "lease_expired", "crashed")
        ]
        nexts = [
            min(later)
            for fence, rows in of_kill
            if (later := [_seconds_after_kill(row.claimed_at, kill) for row in rows if row.fencing_token > fence])
        ]
        release_seconds += [max(ends)] if ends else []
        reclaim_seconds += [max(nexts)] if nexts else []
    return RecoveryTimes(release_seconds, reclaim_seconds)


def _seconds_after_kill(timestamp: Any, kill: WorkerKill) -> float:
    if isinstance(timestamp, str):  # SQLite's own, in UTC
        from datetime import UTC, datetime

        timestamp = datetime.fromisoformat(timestamp).replace(tzinfo=UTC)
    return max(0.0, float(timestamp.timestamp()) - kill.killed_at)
