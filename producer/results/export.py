"""Exports of a batch's results to a file or to a table of the user's own, whole or not at all."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models import vectors
from models.db import Database
from models.errors import UsageError
from models.pipelines.options.prompt_template import find_batch_spec_if_known
from models.states import JobOutcome
from models.tasks.feature_extraction import FEATURE_EXTRACTION, NO_POOLING
from producer.batches.views import BatchView
from producer.results import files, pages, tabular, target_file
from producer.results.arguments import parse_statuses as parse_statuses
from producer.results.formats import arrow, matrix, npy, parquet
from producer.results.result_row import ResultRow, escape_line_separators
from producer.results.tables import user_table
from producer.results.tabular import TabularLayout

if TYPE_CHECKING:
    import numpy


def export_file(
    database: Database, batch: BatchView, rows: Iterable[ResultRow], path: Path, file_format: str | None = None
) -> int:
    """Write these results of a batch to a file, and return their number.

    file_format: jsonl, csv, parquet or npy; None = the one that the file's suffix names

    A .npy file takes all rows by position, and the number is that of the vectors in it. Raises UsageError when the file
    can't be written, or can't hold these results.
    """
    file_format = target_file.check_target(path, file_format)
    if file_format == "npy":
        return files.write_npy(path, rows, batch.counts.total, _find_dimensions(database, batch, "a .npy file"))
    return files.write_file(file_format, path, rows, partial(_find_layout, database, batch))


def open_export(database: Database, batch: BatchView, rows: Iterable[ResultRow], file_format: str) -> Iterator[bytes]:
    """Return the content of the file that `export_file` writes, in blocks that are made while they are read.

    file_format: jsonl, csv, parquet or npy

    Raises UsageError before the first block if there can't be such a file, and while it is read for a row that does not
    fit: then what was read is not a whole file.
    """
    if file_format == "jsonl":
        return files.join_lines(escape_line_separators(row.json_line()) for row in rows)
    if file_format == "npy":
        dimensions = _find_dimensions(database, batch, "a .npy file")
        return files.join_parts(npy.iter_parts(rows, batch.counts.total, dimensions))
    if file_format == "parquet":
        target_file.require_pyarrow()
        return parquet.iter_parts(rows, _find_layout(database, batch))
    return files.join_lines(files.iter_csv(rows, _find_layout(database, batch)))


def export_table(
    database: Database, batch: BatchView, table_name: str, after_seq: int = 0, statuses: Sequence[JobOutcome] = ()
) -> int:
    """Write a batch's results into a typed table in the same database, and return their number.

    table_name: `table` or `schema.table`; created if it is missing
    after_seq: only results that landed after it; 0 = all
    statuses: only results with one of these; empty = all

    Before the first success no column of an output is known; the table gets them later, and is not made for no rows.
    Raises UsageError when the table can't take the results.
    """
    user_table.UserTable.parse(table_name)
    rows = pages.iter_by_position(database, batch.id, after_seq, statuses)
    has_succeeded = pages.first_success(database, batch.id) is not None
    layout = _find_layout(database, batch)
    if not has_succeeded:
        layout = layout.without_outputs()
        rows = (row for row in rows if row.status is not JobOutcome.SUCCEEDED)  # one may land meanwhile
    return user_table.write_table(database, batch.id, table_name, rows, layout)


def open_arrow_reader(
    database: Database, batch: BatchView, after_seq: int = 0, statuses: Sequence[JobOutcome] = ()
) -> Any:
    """Return a RecordBatchReader of a batch's results, with the columns of a Parquet file; raises UsageError.

    after_seq: only results that landed after it; 0 = all
    statuses: only results with one of these; empty = all
    """
    rows = pages.iter_by_position(database, batch.id, after_seq, statuses)
    return arrow.open_reader(rows, _find_layout(database, batch))


def read_matrix(database: Database, batch: BatchView) -> "numpy.ndarray[Any, Any]":
    """Return the vectors of a batch as a matrix with a row for each job; raises UsageError where that can't be."""
    if not batch.status.has_ended:
        raise UsageError(f"{batch.id} is {batch.status}, so vectors may be missing; wait for its end first: wait()")
    return matrix.read_matrix(database, batch, _find_dimensions(database, batch, "a matrix"))


def _find_layout(database: Database, batch: BatchView) -> TabularLayout:
    spec = find_batch_spec_if_known(batch.task, batch.parameters)
    has_vectors = batch.task == FEATURE_EXTRACTION.name and batch.parameters.get("pooling") != NO_POOLING
    return tabular.layout_for_batch(database, batch.id, spec, has_vectors=has_vectors)


def _find_dimensions(database: Database, batch: BatchView, target: str) -> int:
    """Return how many numbers the vectors of a batch have; raises UsageError if it has none.

    target: what needs them, in the message
    """
    first = pages.first_success(database, batch.id)
    if first is None:
        raise UsageError(f"no job of {batch.id} has succeeded, so there is no vector for {target}")
    if first.vector is None:
        raise UsageError(f"the outputs of {batch.id} are no vectors, which {target} needs; write .jsonl or .parquet")
    return vectors.dimensions(first.vector)
