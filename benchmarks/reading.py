"""Reading back: how long the status of a batch and a page of its results take, however many jobs it has.

Both databases, batches of ten thousand, a hundred thousand and a million answered jobs side by side, put straight
into SQL. A page is 1,000 rows, at the beginning, in the middle and near the end, in order of `seq` and by position.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import text

from benchmarks import report
from benchmarks.options import parsed, work_folder
from models import schema
from models.db import Database, insert_rows
from producer import batches, results
from tests import answers
from tests.servers import Postgres

CHUNK = 20_000
SLICE_JOBS = 1024
MOST_STATUS_MS, MOST_PAGE_MS = 10.0, 20.0

BATCH = """
INSERT INTO batches (id, pipeline, task, model, revision, parameters, metadata, status, total, succeeded, last_seq,
                     tokens, padded_tokens)
VALUES (:id, 'reviews', 'sentiment-analysis', 'made', 'abc', :empty, :empty, 'in_progress', :jobs, :jobs, :jobs, 1, 1)
"""


def main() -> None:
    """Measure both databases and print a table."""
    options = parsed(__doc__, items=1_000_000, rounds=20)
    rows: list[tuple[str, ...]] = []
    with work_folder() as folder, Postgres() as postgres:
        for name, url in _urls(folder, postgres):
            schema.upgrade(url)
            database = Database(url)
            for jobs in (options.items // 100, options.items // 10, options.items):
                _fill(database, f"batch_{jobs}", jobs)
            if name == "PostgreSQL":  # as autovacuum would have done by itself in a minute
                with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                    connection.execute(text("ANALYZE"))
            for jobs in (options.items // 100, options.items // 10, options.items):
                rows += (
                    (name, f"{jobs:,}", *row) for row in _measured(database, f"batch_{jobs}", jobs, options.rounds)
                )
            database.close()
    report.table("Reading back", ("database", "jobs", "what", "fastest", "median", "target", "met"), rows)


def _urls(folder: Path, postgres: Postgres) -> Iterator[tuple[str, str]]:
    yield "SQLite", f"sqlite:///{folder / 'reading.db'}"
    yield "PostgreSQL", postgres.create_database("reading")


def _measured(database: Database, batch_id: str, jobs: int, rounds: int) -> Iterator[tuple[str, ...]]:
    yield _timed("status", MOST_STATUS_MS, rounds, lambda: batches.get(database, batch_id))
    for place, after in (("first", 0), ("middle", jobs // 2), ("last", jobs - results.PAGE_ROWS)):
        by_seq = partial(results.pages_as_landed, database, batch_id, after, results.PAGE_ROWS)
        by_position = partial(results.page_by_position, database, batch_id, after - 1)
        yield _timed(f"{place} page by seq", MOST_PAGE_MS, rounds, lambda call=by_seq: list(call()))  # type: ignore[misc]
        yield _timed(f"{place} page by position", MOST_PAGE_MS, rounds, by_position)


def _timed(what: str, most: float, rounds: int, call: Callable[[], Any]) -> tuple[str, ...]:
    call()
    seen = []
    for _ in range(rounds):
        began = time.perf_counter()
        call()
        seen.append((time.perf_counter() - began) * 1000)
    median = statistics.median(seen)
    return what, f"{min(seen):.1f} ms", f"{median:.1f} ms", f"{most:.0f} ms", "yes" if median < most else "no"


def _fill(database: Database, batch_id: str, jobs: int) -> None:
    version = answers.version(database)
    with database.write() as connection:
        connection.execute(text(BATCH), {"id": batch_id, "jobs": jobs, "empty": "{}"})
        slices = ((batch_id, n, min(SLICE_JOBS, jobs - n), "done") for n in range(0, jobs, SLICE_JOBS))
        insert_rows(connection, "slices", ("batch_id", "first", "size", "state"), slices)
        times = f"UPDATE slices SET claimed_at = {database.sql.now}, done_at = {database.sql.now}"
        connection.execute(text(times))
    for first in range(0, jobs, CHUNK):
        places = range(first, min(jobs, first + CHUNK))
        with database.write() as connection:
            texts = ((batch_id, n, f"id-{n}", f'{{"text": "review number {n}, and what it says"}}') for n in places)
            insert_rows(connection, "jobs", ("batch_id", "position", "custom_id", "input"), texts)
            outputs = (
                (
                    batch_id,
                    n,
                    n + 1,
                    "succeeded",
                    '{"label": "POSITIVE", "score": 0.987654}',
                    None,
                    None,
                    False,
                    1,
                    version,
                )
                for n in places
            )
            insert_rows(connection, "results", answers.RESULT_COLUMNS, outputs)


if __name__ == "__main__":
    main()
