"""Exports of a batch's results to a file or to a table of the user's own, whole or not at all."""

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from models import vectors
from models.db import Database
from models.errors import UsageError
from models.pipelines.prompt_template import find_batch_spec
from models.states import JobOutcome
from producer.batches.views import BatchView
from producer.results import files, pages, tabular, user_table
from producer.results.result_row import ResultRow


def parse_statuses(status: str | Iterable[str] | None) -> tuple[JobOutcome, ...]:
    """Return the outcomes that a status or several name; none for None. Raises UsageError."""
    names = [status] if isinstance(status, str) else () if status is None else status
    try:
        return tuple(dict.fromkeys(map(JobOutcome, names)))
    except (TypeError, ValueError):
        raise UsageError(f"a result's status is one of {', '.join(JobOutcome)}") from None


def export_file(
    database: Database, batch: BatchView, rows: Iterable[ResultRow], path: Path, file_format: str | None = None
) -> int:
    """Write these results of a batch to a file, and return their number.

    file_format: jsonl, csv, parquet or npy; None = the one that the file's suffix names

    A .npy file takes all rows by position, and the number is that of the vectors in it. Raises UsageError when the file
    can't be written, or can't hold these results.
    """
    file_format = files.check_target(path, file_format)
    if file_format == "npy":
        return files.write_npy(path, rows, batch.counts.total, _find_dimensions(database, batch))
    make_layout = partial(tabular.layout_for_batch, database, batch.id, find_batch_spec(batch.task, batch.parameters))
    return files.write_file(file_format, path, rows, make_layout)


def export_table(
    database: Database, batch: BatchView, table_name: str, after_seq: int = 0, statuses: Sequence[JobOutcome] = ()
) -> int:
    """Write a batch's results into a typed table in the same database, and return their number.

    table_name: `table` or `schema.table`; created if it is missing
    after_seq: only results that landed after it; 0 = all
    statuses: only results with one of these; empty = all

    Raises UsageError when the table can't take them.
    """
    user_table.UserTable.parse(table_name)
    layout = tabular.layout_for_batch(database, batch.id, find_batch_spec(batch.task, batch.parameters))
    rows = pages.iter_by_position(database, batch.id, after_seq, statuses)
    return user_table.write_table(database, batch.id, table_name, rows, layout)


def _find_dimensions(database: Database, batch: BatchView) -> int:
    """Return how many numbers the vectors of a batch have; raises UsageError if it has none."""
    first = pages.first_success(database, batch.id)
    if first is None:
        raise UsageError(f"no job of {batch.id} has succeeded, so there is no vector for a .npy file")
    if first.vector is None:
        raise UsageError(f"the outputs of {batch.id} are no vectors, which a .npy file needs; write .jsonl or .parquet")
    return vectors.dimensions(first.vector)
