"""The verdict: what was lost, answered twice or answered wrongly, from the rows alone."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import text

from producer.health import audit
from tests.soak import device
from tests.soak.faults import Kill
from tests.soak.plant import FAST, Plant

CLOSE = 1e-4  # between a score that was computed in company and one alone; as the conformance tests have it
SHOWN = 10

OPEN = """
SELECT j.batch_id, j.position FROM jobs j JOIN batches b ON b.id = j.batch_id
WHERE b.status NOT IN ('validating', 'in_progress', 'cancelling')
  AND NOT EXISTS (SELECT 1 FROM results r WHERE r.batch_id = j.batch_id AND r.position = j.position)
"""

TWICE = """
SELECT batch_id, seq, count(*) AS times FROM (
    SELECT batch_id, seq FROM results UNION ALL SELECT batch_id, seq FROM past_results
) AS written GROUP BY batch_id, seq HAVING count(*) > 1
"""

# Results and what replays took back; a batch that failed as a whole has computed nothing.
ANSWERS = """
SELECT b.pipeline, r.batch_id, r.position, r.status, r.output, r.error_code, j.input FROM (
    SELECT batch_id, position, status, output, error_code FROM results
    UNION ALL SELECT batch_id, position, status, output, error_code FROM past_results
) AS r JOIN batches b ON b.id = r.batch_id JOIN jobs j ON j.batch_id = r.batch_id AND j.position = r.position
"""

# The claim had been ended by somebody else before the result was written under it.
STALE = """
SELECT r.batch_id, r.position, a.ending FROM (
    SELECT batch_id, position, slice_id, token, finished_at FROM results
    UNION ALL SELECT batch_id, position, slice_id, token, finished_at FROM past_results
) AS r JOIN attempts a ON a.batch_id = r.batch_id AND a.slice_id = r.slice_id AND a.token = r.token
WHERE a.ending NOT IN ('done', 'retried') AND r.finished_at > a.ended_at
"""

# One claim has one end; only what is put off has one for each job that asks for it.
ENDED_TWICE = """
SELECT slice_id, token, count(DISTINCT ending) AS endings, count(*) AS times FROM attempts GROUP BY slice_id, token
HAVING count(DISTINCT ending) > 1 OR (min(ending) <> 'retried' AND count(*) > 1)
"""

NUMBERS = "SELECT slice_id, token, number, ending FROM attempts WHERE number < 1 OR number > token"

CLAIMS = """
SELECT slice_id, token, claimed_at, ended_at, ending FROM attempts WHERE slice_id IN ({ids})
UNION ALL
SELECT id, token, leased_at, NULL, 'held' FROM slices WHERE id IN ({ids}) AND leased_at IS NOT NULL
"""

NEVER = ("worker_died", "timed_out")
EXPECTED = {  # codes that a job of the soak may fail with, and which of its texts may
    "model_error": device.breaks,
    "unavailable": device.flaky,
}


@dataclass
class Verdict:
    """Counts, and a sentence for each of the first few things that are wrong."""

    batches: int = 0
    jobs: int = 0
    lost: int = 0
    twice: int = 0
    wrong: int = 0
    violations: list[str] = field(default_factory=list)

    def note(self, kind: str, found: Sequence[Any]) -> int:
        """Count what is wrong in one way."""
        if found:
            self.violations.append(f"{kind}, {len(found):,}: {'; '.join(map(str, found[:SHOWN]))}")
        return len(found)


def judged(plant: Plant, expected: Mapping[str, Mapping[str, Any]]) -> Verdict:
    """Everything that is wrong; `expected` is what the real model says of each of its texts."""
    verdict = Verdict()
    [counts] = plant.query("SELECT count(*) AS batches, coalesce(sum(total), 0) AS jobs FROM batches")
    verdict.batches, verdict.jobs = counts.batches, counts.jobs
    verdict.lost = verdict.note("lost: open though ended", plant.query(OPEN))
    verdict.lost += verdict.note("lost: accepted, and not there", list(_missing(plant)))
    verdict.twice = verdict.note("twice: a seq", plant.query(TWICE))
    verdict.twice += verdict.note("twice: written under a claim that had ended", plant.query(STALE))
    verdict.note("a claim with several ends", plant.query(ENDED_TWICE))
    verdict.note("an attempt's number", plant.query(NUMBERS))
    verdict.wrong = verdict.note("wrong", list(_wrong(plant, expected)))
    problems = [
        (found.batch_id, problem.code, problem.message, problem.places)
        for found in audit.every(plant.database, plant.settings.lease_seconds)
        for problem in found.problems
    ]
    verdict.note("unsound by the audit", problems)
    verdict.note("not as it should be", plant.unsound)
    verdict.note("a defect in a log", [line[:1500] for line in plant.log.splitlines() if _is_defect(line)])
    return verdict


def _is_defect(line: str) -> bool:
    return "a defect in" in line or "Traceback" in line


def _missing(plant: Plant) -> Iterator[Any]:
    there = {row.id: row.total for row in plant.query("SELECT id, total FROM batches")}
    for line in plant.record.read_text().splitlines():
        accepted = json.loads(line)
        if there.get(accepted["id"]) != accepted["jobs"]:
            yield accepted, there.get(accepted["id"])


def _wrong(plant: Plant, expected: Mapping[str, Mapping[str, Any]]) -> Iterator[Any]:
    with plant.database.read() as connection:
        rows = connection.execution_options(yield_per=10_000).execute(text(ANSWERS))
        for row in rows:
            given, output = _document(row.input), _document(row.output)
            if not _right(row, given.get("text"), output, expected):
                yield row.batch_id, row.position, row.status, row.error_code, output, given


def _right(row: Any, given: str | None, output: Any, expected: Mapping[str, Mapping[str, Any]]) -> bool:
    if row.status == "succeeded":
        assert given is not None
        if row.pipeline == FAST:
            return output == device.answer(given) and not device.breaks(given)
        return output["label"] == expected[given]["label"] and math.isclose(
            output["score"], expected[given]["score"], abs_tol=CLOSE
        )
    if row.status != "failed" or given is None or row.error_code == "submit_abandoned":
        return row.error_code not in NEVER
    return row.pipeline == FAST and row.error_code in EXPECTED and EXPECTED[row.error_code](given)


def _document(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value or {}


@dataclass(frozen=True, slots=True)
class Recovery:
    """Seconds from a kill until the last slice of the dead was given back, and until it was claimed by another."""

    given_back: list[float]
    claimed: list[float]


def recovery(plant: Plant, kills: Sequence[Kill]) -> Recovery:
    """How long it took after each kill; slices that were closed or split meanwhile have no other claim."""
    ids = {slice_id for kill in kills for slice_id, _ in kill.held}
    if not ids:
        return Recovery([], [])
    found: dict[int, list[Any]] = {}
    for row in plant.query(CLAIMS.format(ids=", ".join(map(str, sorted(ids))))):
        found.setdefault(row.slice_id, []).append(row)
    back, claimed = [], []
    for kill in kills:
        of_kill = [(token, found.get(slice_id, [])) for slice_id, token in kill.held]
        ends = [_seconds(row.ended_at, kill) for token, rows in of_kill for row in rows
                if row.token == token and row.ended_at and row.ending in ("killed", "lapsed", "died")]  # fmt: skip
        nexts = [min(later) for token, rows in of_kill
                 if (later := [_seconds(row.claimed_at, kill) for row in rows if row.token > token])]  # fmt: skip
        back += [max(ends)] if ends else []
        claimed += [max(nexts)] if nexts else []
    return Recovery(back, claimed)


def _seconds(moment: Any, kill: Kill) -> float:
    if isinstance(moment, str):  # SQLite's own, in UTC
        from datetime import UTC, datetime

        moment = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    return max(0.0, float(moment.timestamp()) - kill.moment)
