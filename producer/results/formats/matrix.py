"""The vectors of a batch as one matrix of NumPy, whose row i is the job at position i."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from models import vectors
from models.db import Database
from models.errors import UsageError
from producer.batches import views
from producer.batches.views import BatchView
from producer.results.result_columns import VECTOR_COLUMN

if TYPE_CHECKING:
    import numpy

PAGE_BYTES = 2 * 2**20  # of vectors, which a driver holds several times

# Both ends of the page are stated, so that every plan reads the page alone.
SELECT_VECTORS = """
SELECT r.position, {vector} FROM results r
WHERE r.batch_id = :batch_id AND r.position >= :start AND r.position < :end AND r.vector IS NOT NULL
"""


def read_matrix(database: Database, batch: BatchView, dimensions: int) -> "numpy.ndarray[Any, Any]":
    """Return the vectors of a batch that has ended; the rows of jobs without one are NaN.

    dimensions: how many numbers each vector has

    Raises UsageError for a vector of another length.
    """
    import numpy

    matrix = numpy.full((batch.counts.total, dimensions), math.nan, numpy.float32)
    for position, vector in _iter_vectors(database, batch.id, batch.counts.total, dimensions):
        if vectors.dimensions(vector) != dimensions:
            raise UsageError(
                f"the vector at position {position} has {vectors.dimensions(vector):,} numbers, the first has "
                f"{dimensions:,}; read them by results()"
            )
        matrix[position] = numpy.frombuffer(vector, "<f4")
    views.check_not_deleting(views.get_batch(database, batch.id))
    return matrix


def _iter_vectors(database: Database, batch_id: str, jobs: int, dimensions: int) -> Iterator[tuple[int, bytes]]:
    """Yield each position with its vector, page by page; each page is read in a separate transaction."""
    dialect = database.engine.dialect.name
    query = text(SELECT_VECTORS.format(vector=VECTOR_COLUMN[dialect]))
    page_rows = max(1, PAGE_BYTES // (dimensions * vectors.NUMBER_BYTES or 1))
    for start in range(0, jobs, page_rows):
        params = {"batch_id": batch_id, "start": start, "end": min(start + page_rows, jobs)}
        with database.read() as connection:
            rows = connection.execute(query, params).all()
        for position, raw in rows:
            yield position, raw if dialect == "sqlite" else vectors.from_array_wire(raw)
