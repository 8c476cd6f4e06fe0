"""A sample of a batch's results: all of a small batch, else results at equal distances, found by index."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Boolean, column, text

from models.db import Database
from models.dialects.fragments import comma_separated
from models.documents import from_json
from producer.results.summaries.marks import PICK_RESULTS, spread

MAX_ALL = 2_000  # results of which each is read
SAMPLE = 1_000
MAX_LOOKED_UP = 8_000  # places at which a result is looked for; where retries withdrew results there are none
MAX_CHARACTERS = 20_000  # of an output that is looked into

SELECT_ENDS = """
SELECT (SELECT min(seq) FROM results WHERE batch_id = :batch_id) AS first_seq,
       (SELECT max(seq) FROM results WHERE batch_id = :batch_id) AS last_seq
"""

# Large outputs stay where they are: a thousand of them would take seconds to read.
SELECT_OUTPUTS = """
SELECT r.status, {output} AS output, r.output IS NOT NULL AS has_output, {vector_length} AS vector_length,
       r.truncated, r.model_version_id
FROM {results} LIMIT :limit
"""
ALL_RESULTS = "results r WHERE r.batch_id = :batch_id AND r.seq > 0"
OUTPUT = {
    "postgresql": "CASE WHEN pg_column_size(r.output) <= :most THEN CAST(r.output AS text) END",
    "sqlite": "CASE WHEN length(r.output) <= :most THEN CAST(r.output AS TEXT) END",
}
VECTOR_LENGTH = {"postgresql": "array_length(r.vector, 1)", "sqlite": "length(r.vector) / 4"}

SELECT_VERSIONS = """
SELECT id, model, revision, dtype, device, quantization, adapter, adapter_revision FROM model_versions
WHERE id {in_numbers} ORDER BY id
"""


class SampledResult(NamedTuple):
    """What a distribution needs of one result.

    is_too_large: it has an output, which was not read
    vector_length: the number of its numbers, if the output is a vector
    """

    status: str
    output: Any
    is_too_large: bool
    vector_length: int | None
    truncated: bool
    model_version_id: int | None


class Version(NamedTuple):
    """What computed results."""

    id: int
    model: str
    revision: str
    dtype: str
    device: str
    quantization: str | None
    adapter: str | None
    adapter_revision: str | None


@dataclass(frozen=True, slots=True)
class Sample:
    """Some results of a batch, or all.

    total: the results that the batch has
    """

    results: tuple[SampledResult, ...]
    total: int

    @property
    def is_partial(self) -> bool:
        """Whether the batch has more results."""
        return len(self.results) < self.total


def read_sample(database: Database, batch_id: str, total: int) -> Sample:
    """Read all results of a batch that has at most 2,000, else about 1,000 of them.

    total: the results that it has
    """
    with database.read() as connection:
        ends = connection.execute(text(SELECT_ENDS), {"batch_id": batch_id}).one()
        if ends.last_seq is None:
            return Sample((), 0)
        dialect = connection.dialect.name
        params: dict[str, Any] = {"batch_id": batch_id, "most": MAX_CHARACTERS, "limit": MAX_ALL}
        results = ALL_RESULTS
        if total > MAX_ALL:
            results = PICK_RESULTS[dialect].format(column="seq")
            places = min(MAX_LOOKED_UP, SAMPLE * (ends.last_seq - ends.first_seq + 1) // total)
            params["numbers"] = comma_separated(spread(ends.first_seq, ends.last_seq, places))
        query = SELECT_OUTPUTS.format(output=OUTPUT[dialect], vector_length=VECTOR_LENGTH[dialect], results=results)
        names = ("status", "output", "has_output", "vector_length", "truncated", "model_version_id")
        typed = text(query).columns(*(column(name, Boolean if name == "truncated" else None) for name in names))
        rows = connection.execute(typed, params).all()
    return Sample(tuple(_to_result(row) for row in rows), max(total, len(rows)))


def read_versions(database: Database, ids: Mapping[int, int]) -> list[tuple[Version, int]]:
    """Return model versions with the number of results that each has computed in a sample, the most frequent first."""
    if not ids:
        return []
    query = text(SELECT_VERSIONS.format(in_numbers=database.sql.in_numbers))
    with database.read() as connection:
        versions = [Version(*row) for row in connection.execute(query, {"numbers": comma_separated(ids)})]
    return sorted(((version, ids[version.id]) for version in versions), key=lambda pair: -pair[1])


def _to_result(row: Any) -> SampledResult:
    output = None if row.output is None else from_json(row.output)
    is_too_large = bool(row.has_output) and row.output is None
    return SampledResult(row.status, output, is_too_large, row.vector_length, row.truncated, row.model_version_id)
