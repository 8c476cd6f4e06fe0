"""Exports and audits: rows a second of processor time, and the peak memory over the idle process.

Each export runs in a process of its own. Rows are written straight to SQL, so that nothing is computed.
"""

import argparse
import itertools
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy
import psutil
from sqlalchemy import text

from benchmarks import options, report
from models import schema
from models.db import Database
from models.dialects.bulk_insert import insert_rows
from models.documents import to_json
from producer.client import Client
from producer.health import audit
from tests import fake_worker
from tests.factories.batch_rows import insert_batch
from tests.servers import Postgres
from worker.leasing.commit import RESULT_COLUMNS

BATCH_ID = "batch_exports"
FORMATS = ("jsonl", "csv", "parquet", "sql")
VECTOR_FORMATS = (*FORMATS, "npy")
SMALL_BATCHES, SMALL_BATCH_JOBS = 20_000, 5
LEASE_SECONDS = 30.0


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=200_000, help="results to export")
    parser.add_argument("--dimensions", type=int, help="export vectors of so many numbers instead of labels; no audits")
    parser.add_argument("--export", nargs=3, metavar=("URL", "FORMAT", "PATH"), help="only this, in this process")
    asked = parser.parse_args()
    if asked.export:
        print(json.dumps(_export(*asked.export)))
        return
    exports, audits = [], []
    with options.temporary_folder() as folder, Postgres() as postgres:
        urls = {"PostgreSQL": postgres.create_database("exports"), "SQLite": f"sqlite:///{folder / 'exports.db'}"}
        for name, url in urls.items():
            schema.upgrade(url)
            database = Database(url)
            insert_results(database, asked.items, asked.dimensions)
            formats = VECTOR_FORMATS if asked.dimensions else FORMATS
            exports += [(f"{name}, {kind}", *_run_export(url, kind, folder / f"out.{kind}")) for kind in formats]
            if not asked.dimensions:
                _insert_small_batches(database)
                audits.append((name, *_time_audit(database)))
            database.close()
    header = ("", "rows/s of processor time", "rows/s", "peak over the idle process, MB")
    results = f"vectors of {asked.dimensions:,}" if asked.dimensions else "results"
    report.print_table(f"Exports of {asked.items:,} {results}", header, exports)
    if asked.dimensions:
        return
    title = f"Audit of {SMALL_BATCHES:,} batches of {SMALL_BATCH_JOBS} jobs, and one of {asked.items:,}"
    report.print_table(title, ("", "s", "s of processor time"), audits)


def _run_export(url: str, file_format: str, path: Path) -> tuple[str, str, str]:
    command = [sys.executable, "-m", "benchmarks.exports", "--export", url, file_format, str(path)]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    figures = json.loads(finished.stdout)
    rows = figures["rows"]
    speeds = (f"{rows / figures[name]:,.0f}" for name in ("processor_seconds", "seconds"))
    return (*speeds, f"{figures['peak_mb']:,.0f}")  # type: ignore[return-value]


def _export(url: str, file_format: str, path: str) -> dict[str, float]:
    with Client(url) as client:
        batch = client.batch(BATCH_ID)
        if file_format == "parquet":
            import pyarrow.parquet  # noqa: F401  # counts as idle
        idle = psutil.Process().memory_info().rss
        started, processor_started = time.monotonic(), time.process_time()
        rows = getattr(batch, f"to_{file_format}")("exported" if file_format == "sql" else path)
        return {
            "rows": rows,
            "processor_seconds": time.process_time() - processor_started,
            "seconds": time.monotonic() - started,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6 - idle / 1e6,
        }


def insert_results(database: Database, count: int, dimensions: int | None = None) -> None:
    """Insert a completed batch with this many results, as labels or as vectors of so many numbers."""
    version = fake_worker.ensure_model_version(database)
    insert_batch(database, 1, id=BATCH_ID, total=count, status="completed", succeeded=count, last_seq=count)
    jobs = (
        (BATCH_ID, position, f"review-{position}", to_json({"text": f"{position} days late. " * 6}), '{"region":"EU"}')
        for position in range(count)
    )
    output = None if dimensions else to_json({"label": "NEGATIVE", "score": 0.9892604351043701})
    vectors = _generate_vectors(dimensions) if dimensions else itertools.repeat(None)
    results = (
        (BATCH_ID, position, position + 1, "succeeded", output, None, None, False, 1, version, vector)
        for position, vector in zip(range(count), vectors, strict=False)
    )
    types = [RESULT_COLUMNS[name] for name in fake_worker.WITH_VECTOR]
    with database.write() as connection:
        connection.execute(text("DELETE FROM jobs"))
        connection.execute(text("UPDATE slices SET size = :size, state = 'done', fencing_token = 1"), {"size": count})
        insert_rows(connection, "jobs", ["batch_id", "position", "custom_id", "input", "passthrough"], jobs)
        insert_rows(connection, "results", fake_worker.WITH_VECTOR, results, types)
        connection.execute(text("UPDATE results SET slice_id = (SELECT min(id) FROM slices), fencing_token = 1"))


def _generate_vectors(dimensions: int) -> Iterator[bytes]:
    """Yield normalized vectors, which are as hard to compress and to print as real ones."""
    generator = numpy.random.default_rng(0)
    while True:
        numbers = generator.standard_normal(dimensions, "float32")
        yield (numbers / numpy.linalg.norm(numbers)).astype("<f4").tobytes()


INSERT_SMALL_BATCHES = f"""
INSERT INTO batches (id, pipeline, task, model, parameters, metadata, status, total, succeeded, last_seq)
SELECT small.id, pipeline, task, model, parameters, metadata, status,
       {SMALL_BATCH_JOBS}, {SMALL_BATCH_JOBS}, {SMALL_BATCH_JOBS}
FROM small CROSS JOIN batches b WHERE b.id = :batch_id
"""
INSERT_SLICES = f"""
INSERT INTO slices (batch_id, start_position, size, state, fencing_token)
SELECT id, 0, {SMALL_BATCH_JOBS}, 'done', 1 FROM small
"""
SET_SLICES = """
UPDATE results SET fencing_token = 1, slice_id = (SELECT s.id FROM slices s WHERE s.batch_id = results.batch_id)
WHERE slice_id IS NULL
"""


def _insert_small_batches(database: Database) -> None:
    ids = [f"batch_small_{number:06}" for number in range(SMALL_BATCHES)]
    places = [(batch_id, position) for batch_id in ids for position in range(SMALL_BATCH_JOBS)]
    jobs = ((*place, "{}") for place in places)
    results = (
        (batch_id, position, position + 1, "succeeded", "{}", None, None, False, 1, 1) for batch_id, position in places
    )
    with database.write() as connection:
        connection.execute(text("CREATE TEMPORARY TABLE small (id TEXT)"))
        insert_rows(connection, "small", ["id"], ((batch_id,) for batch_id in ids))
        connection.execute(text(INSERT_SMALL_BATCHES), {"batch_id": BATCH_ID})
        connection.execute(text(INSERT_SLICES))
        insert_rows(connection, "jobs", ["batch_id", "position", "input"], jobs)
        insert_rows(connection, "results", fake_worker.RESULT_COLUMNS, results)
        connection.execute(text(SET_SLICES))


def _time_audit(database: Database) -> tuple[str, str]:
    started, processor_started = time.monotonic(), time.process_time()
    audits = list(audit.audit_all(database, LEASE_SECONDS))
    if not all(batch_audit.is_sound for batch_audit in audits):
        raise RuntimeError(f"the inserted rows are unsound: {next(a for a in audits if not a.is_sound)}")
    return f"{time.monotonic() - started:.1f}", f"{time.process_time() - processor_started:.1f}"


if __name__ == "__main__":
    main()
