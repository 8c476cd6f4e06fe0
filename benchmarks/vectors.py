"""Vectors in the database: size, write time and read time beside the same numbers as JSON text.

Results go through the commits of workers, a slice at a time, and are read as pages, in a new database for each run.
Nothing is computed: vectors and texts exist before the clock starts.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Literal

import numpy as np
import psutil
from sqlalchemy import text

from benchmarks import options, report, results_file
from benchmarks.comparison import Candidate, run_interleaved
from benchmarks.report import Target
from models import schema
from models.db import Database
from models.dialects.bulk_insert import insert_rows
from models.documents import to_json
from models.lifecycle import slices
from models.states import JobOutcome
from producer.results import pages
from tests.factories.batch_rows import MODEL_VERSION, claimant_for, insert_batch
from tests.servers import Postgres
from worker.leasing import commit
from worker.leasing.claiming import claims
from worker.leasing.job_results import BatchCommit, JobResult
from worker.leasing.leases import Lease
from worker.loading import versions

BATCH_ID = "batch_0123456789abcdefghjk"
SLICE_JOBS = 1_024  # also the results of a commit
DISTINCT_VECTORS = 4_096
MAX_SIZE_RATIO, MAX_TIME_RATIO = 0.4, 0.5

SELECT_BYTES = {
    "PostgreSQL": "SELECT pg_total_relation_size('results')",
    "SQLite": """
SELECT sum(pgsize) FROM dbstat
WHERE name = 'results' OR name IN (SELECT name FROM sqlite_master WHERE tbl_name = 'results')""",
}

Form = Literal["vectors", "JSON"]


@dataclass
class Contestant:
    """One form of the numbers on one kind of database, with what its runs measured.

    create: makes a database and returns its URL.
    drop: removes it.
    server_seconds: the processor time of the database server so far.
    """

    database_name: str
    form: Form
    outputs: Sequence[bytes | str]
    items: int
    create: Callable[[], str]
    drop: Callable[[], None]
    server_seconds: Callable[[], float]
    bytes_per_row: float = 0.0
    processor_seconds: list[float] = field(default_factory=list)
    read_seconds: list[float] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The name in tables."""
        return f"{self.database_name}, {self.form}"

    def run(self) -> float:
        """Write all results and read them; returns the seconds of the writing."""
        url = self.create()
        schema.upgrade(url)
        database = Database(url)
        try:
            version_id, leases = _prepare(database, self.items)
            server_started = self.server_seconds()
            seconds, processor_seconds = self._write(database, version_id, leases)
            self.processor_seconds.append(processor_seconds + self.server_seconds() - server_started)
            started = time.monotonic()
            rows = sum(map(len, pages.iter_pages(database, BATCH_ID)))
            self.read_seconds.append(time.monotonic() - started)
            if rows != self.items:
                raise RuntimeError(f"{rows:,} of {self.items:,} results were read")
            with database.read() as connection:
                self.bytes_per_row = connection.scalar(text(SELECT_BYTES[self.database_name])) / self.items
        finally:
            database.close()
            self.drop()
        return seconds

    def _write(self, database: Database, version_id: int, leases: Sequence[Lease]) -> tuple[float, float]:
        """Commit all results; returns the seconds of the commits, and their processor time in this process."""
        seconds = processor_seconds = 0.0
        for lease in leases:
            planned = BatchCommit([lease], list(self._results(lease)), {lease.slice_id}, version_id)
            started, processor_started = time.monotonic(), time.process_time()
            with database.write() as connection:
                written = commit.commit_results(connection, planned).results_written
            seconds += time.monotonic() - started
            processor_seconds += time.process_time() - processor_started
            if written != lease.size:
                raise RuntimeError(f"{written:,} of {lease.size:,} results were written")
        return seconds, processor_seconds

    def _results(self, lease: Lease) -> Iterator[JobResult]:
        for position in range(lease.start_position, lease.start_position + lease.size):
            output = self.outputs[position % len(self.outputs)]
            if isinstance(output, bytes):
                yield JobResult(lease, position, JobOutcome.SUCCEEDED, vector=output, tokens=40, windows=1)
            else:
                yield JobResult(lease, position, JobOutcome.SUCCEEDED, output, tokens=40, windows=1)


def main() -> None:
    """Print the table and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--items", type=int, default=200_000, help="vectors in one run")
    parser.add_argument("--dimensions", type=int, default=384, help="numbers of a vector")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each contestant")
    asked = parser.parse_args()
    with options.temporary_folder() as folder, Postgres() as postgres:
        contestants = list(_contestants(asked.items, asked.dimensions, folder, postgres))
        candidates = [Candidate(contestant.name, contestant.run) for contestant in contestants]
        measurements = run_interleaved(candidates, asked.items, asked.rounds)
    seconds = {name: median(measured.seconds) for name, measured in measurements.items()}
    _print_tables(contestants, seconds, asked)


def _contestants(items: int, dimensions: int, folder: Path, postgres: Postgres) -> Iterator[Contestant]:
    vectors = _unit_vectors(dimensions)
    outputs: dict[Form, Sequence[bytes | str]] = {
        "vectors": [vector.tobytes() for vector in vectors],
        "JSON": [to_json(vector.tolist()) for vector in vectors],
    }
    path = folder / "vectors.db"
    for form in outputs:
        yield Contestant(
            "PostgreSQL",
            form,
            outputs[form],
            items,
            lambda: postgres.create_database("vectors"),
            lambda: postgres.drop_database("vectors"),
            lambda: _family_seconds(postgres.pid),
        )
        yield Contestant(
            "SQLite", form, outputs[form], items, lambda: f"sqlite:///{path}", lambda: _remove(path), lambda: 0.0
        )


def _unit_vectors(dimensions: int) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
    vectors = np.random.default_rng(0).standard_normal((DISTINCT_VECTORS, dimensions)).astype("<f4")
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _prepare(database: Database, items: int) -> tuple[int, list[Lease]]:
    """Insert a batch with its jobs, and claim all of it; returns the model version and the leases."""
    version_id = versions.register_version(database, MODEL_VERSION)
    insert_batch(database, 1, id=BATCH_ID, total=items)
    with database.write() as connection:
        connection.execute(text("DELETE FROM jobs"))
        connection.execute(text("DELETE FROM slices"))
        jobs = ((BATCH_ID, position, '{"text":"the parcel arrived two days late"}') for position in range(items))
        insert_rows(connection, "jobs", ("batch_id", "position", "input"), jobs)
        ranges = ((start, min(SLICE_JOBS, items - start)) for start in range(0, items, SLICE_JOBS))
        slices.insert_slices(connection, BATCH_ID, ranges)
    leases: list[Lease] = []
    while claimed := claims.claim(database, claimant_for(lease_seconds=3600.0), items, SLICE_JOBS):
        leases += claimed
    return version_id, leases


def _family_seconds(pid: int) -> float:
    """The processor time of a process and its children, those that have ended too."""
    server = psutil.Process(pid)
    times = server.cpu_times()
    seconds = times.user + times.system + times.children_user + times.children_system
    for child in server.children():
        child_times = child.cpu_times()
        seconds += child_times.user + child_times.system
    return seconds


def _remove(path: Path) -> None:
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


def _print_tables(contestants: Sequence[Contestant], seconds: dict[str, float], asked: argparse.Namespace) -> None:
    rows = [
        (
            contestant.name,
            f"{contestant.bytes_per_row:,.0f}",
            f"{asked.items / seconds[contestant.name]:,.0f}",
            f"{median(contestant.processor_seconds) / asked.items * 1e6:,.0f}",
            f"{asked.items / median(contestant.read_seconds):,.0f}",
        )
        for contestant in contestants
    ]
    header = ("", "bytes a row, indexes included", "written/s", "µs of processor time to write", "read/s")
    report.print_table(f"{asked.items:,} embeddings of {asked.dimensions} numbers", header, rows)
    by_name = {contestant.name: contestant for contestant in contestants}
    targets = []
    for database_name in SELECT_BYTES:
        ours, theirs = by_name[f"{database_name}, vectors"], by_name[f"{database_name}, JSON"]
        ratios = (
            ("size", MAX_SIZE_RATIO, ours.bytes_per_row / theirs.bytes_per_row),
            ("write time", MAX_TIME_RATIO, seconds[ours.name] / seconds[theirs.name]),
            ("processor time", MAX_TIME_RATIO, median(ours.processor_seconds) / median(theirs.processor_seconds)),
        )
        for what, most, ratio in ratios:
            targets.append(Target(f"{database_name}: {what} beside JSON", most, ratio, "{:.0%}", is_upper_bound=True))
    report.print_targets(targets)
    figures = {row[0]: list(row[1:]) for row in rows}
    path = results_file.save("vectors", {"items": asked.items, "columns": list(header[1:]), "figures": figures})
    print(json.dumps({"saved": str(path)}))


if __name__ == "__main__":
    main()
