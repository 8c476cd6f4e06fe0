"""Bulk submit: time to submit a file, answer it with a no-op model, and read pages and status.

Runs on PostgreSQL and on SQLite, against one Celery message and one RQ job for each row.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks import deployments, options, peer_environments, read_latency, report, submit_timing
from benchmarks.comparison import Candidate, run_interleaved
from benchmarks.read_latency import STATUS_READ, percentile_ms
from benchmarks.submit_timing import SubmitTiming
from producer.results.pages import PAGE_ROWS
from tests.deployment import Deployment
from tests.servers import Postgres, Valkey

PEER_DIVISOR = 20  # the peers get a twentieth of the rows, or their runs would take minutes
SIZES = (10_000, 100_000, 1_000_000)
MAX_WAIT_SECONDS = 1_800.0
PROJECT_FOLDER = Path(__file__).resolve().parent.parent

# Over all batches, because a worker alternates between them.
SELECT_WORKED_SPAN = """
SELECT sum(succeeded) AS jobs, max(completed_at) AS until,
       (SELECT min(first_claimed_at) FROM slices) AS since
FROM batches
"""
SELECT_SECONDS = {
    "PostgreSQL": f"SELECT jobs, extract(epoch FROM until - since) AS seconds FROM ({SELECT_WORKED_SPAN}) w",
    "SQLite": f"SELECT jobs, (julianday(until) - julianday(since)) * 86400 AS seconds FROM ({SELECT_WORKED_SPAN}) w",
}


@dataclass
class DatabaseBenchmark:
    """Measurements on one kind of database: submit times, each run on a new database, and read times."""

    name: str
    create: Callable[[], str]
    drop: Callable[[], None]
    folder: Path
    valkey: Valkey
    submit_timings: list[SubmitTiming] = field(default_factory=list)
    jobs_per_second: float = 0.0
    read_seconds: dict[int, Mapping[str, Sequence[float]]] = field(default_factory=dict)

    @contextmanager
    def new_deployment(self) -> Iterator[Deployment]:
        """Start a deployment on a new database, without wakeups on its Redis."""
        self.valkey.flush()
        try:
            with deployments.deployment_on(self.create(), self.valkey, self.folder / self.name) as deployment:
                yield deployment
        finally:
            self.drop()

    def submit(self, path: Path, rows: int) -> float:
        """Return the seconds until the file's rows are accepted and durable."""
        with self.new_deployment() as deployment:
            self.submit_timings.append(submit_timing.time_submit(deployment, self.valkey, path, rows))
        return self.submit_timings[-1].accepted_seconds

    def run_batches(self, files: Mapping[int, Path]) -> None:
        """Submit all files, let one worker answer them, and time reads of the results."""
        with self.new_deployment() as deployment:
            batches = {}
            for rows, path in files.items():
                self.valkey.flush()  # wakeups of the previous batch
                batches[rows] = submit_timing.time_submit(deployment, self.valkey, path, rows).batch_id
            deployments.start_worker(deployment)
            for batch_id in batches.values():
                deployment.client.batch(batch_id).wait(MAX_WAIT_SECONDS)
            [worked] = deployment.query(SELECT_SECONDS[self.name])
            if worked.jobs != sum(files):
                raise RuntimeError(f"only {worked.jobs} of {sum(files)} jobs succeeded:\n{deployment.log}")
            self.jobs_per_second = float(worked.jobs) / float(worked.seconds)
            for rows, batch_id in batches.items():
                self.read_seconds[rows] = read_latency.measure_reads(deployment.client.database, batch_id, rows)

    def table_rows(self) -> Iterator[tuple[str, ...]]:
        """Yield this database's rows of the table of reads."""
        for jobs, looks in self.read_seconds.items():
            cells = (f"{percentile_ms(taken, 0.5):.1f} / {percentile_ms(taken, 0.99):.1f}" for taken in looks.values())
            yield (f"{self.name}, {jobs:,}", *cells)

    def max_read_ms(self, quantile: float, *, status: bool) -> float:
        """Return this percentile of one kind of read in milliseconds, for the slowest batch size."""
        kinds = ((name == STATUS_READ, taken) for looks in self.read_seconds.values() for name, taken in looks.items())
        return max(percentile_ms(taken, quantile) for is_status, taken in kinds if is_status is status)


def main() -> None:
    """Print the tables."""
    asked = options.parse_options(__doc__, items=100_000)
    sizes = [*(size for size in SIZES if size < asked.items), asked.items]
    with options.temporary_folder() as folder, deployments.run_servers() as (postgres, valkey):
        places = _databases(postgres, valkey, folder)
        files = {rows: submit_timing.write_jsonl(folder, rows) for rows in sizes}
        contestants = [
            Candidate(f"Batchmill, {place.name}", partial(place.submit, files[asked.items], asked.items))
            for place in places
        ]
        contestants += _peer_candidates(valkey, asked.items)
        standings = run_interleaved(contestants, asked.items, asked.rounds)
        for place in places:
            place.run_batches(files)
    title = f"Bulk: {asked.items:,} short rows of a JSONL file, until they are accepted"
    report.print_throughput(title, "rows/s", standings, contestants[0].name, "bulk")
    head = ("`batchmill submit`, in its own process", "then seconds to its last wakeup", "peak, MiB", "no-op, jobs/s")
    report.print_table(
        "",
        head,
        [
            (
                place.name,
                f"{median(a.wakeups_seconds for a in place.submit_timings):.2f}",
                f"{max(a.peak_mib for a in place.submit_timings):,.0f}",
                f"{place.jobs_per_second:,.0f}",
            )
            for place in places
        ],
    )
    _print_read_latency(places)
    _print_targets(places, standings[contestants[0].name].items_per_second)


def _databases(postgres: Postgres, valkey: Valkey, folder: Path) -> list[DatabaseBenchmark]:
    file = folder / "bulk.db"

    def remove() -> None:
        for name in ("", "-wal", "-shm"):
            file.with_name(file.name + name).unlink(missing_ok=True)

    return [
        DatabaseBenchmark(
            "PostgreSQL",
            lambda: postgres.create_database("bulk"),
            lambda: postgres.drop_database("bulk"),
            folder,
            valkey,
        ),
        DatabaseBenchmark("SQLite", lambda: f"sqlite:///{file}", remove, folder, valkey),
    ]


def _peer_candidates(valkey: Valkey, items: int) -> list[Candidate]:
    rows = max(1, items // PEER_DIVISOR)

    def enqueued(python: Path, peer: str) -> float:
        valkey.flush()
        command = [str(python), "-m", "benchmarks.peer_enqueue", peer, valkey.url, str(rows)]
        done = subprocess.run(command, cwd=PROJECT_FOLDER, stdout=subprocess.PIPE, text=True, check=True)
        valkey.flush()
        return float(done.stdout) * items / rows  # the comparison counts in Batchmill's number of rows

    python = peer_environments.rq_python()  # created before any clock starts
    return [
        Candidate("Celery, apply_async for each row", lambda: enqueued(Path(sys.executable), "celery")),
        Candidate("RQ, enqueue_many", lambda: enqueued(python, "rq")),
    ]


def _print_read_latency(databases: Sequence[DatabaseBenchmark]) -> None:
    kinds = list(next(iter(databases[0].read_seconds.values())))
    title = f"A page of {PAGE_ROWS:,} results, and the status: ms, p50 / p99 of {read_latency.READ_COUNT} looks"
    report.print_table(title, ("jobs of the batch", *kinds), [row for place in databases for row in place.table_rows()])


def _print_targets(databases: Sequence[DatabaseBenchmark], rows_per_second: float) -> None:
    arrived = databases[0].submit_timings
    targets = [
        report.Target("PostgreSQL, rows/s accepted (a million in 20 s)", 50_000, rows_per_second, "{:,.0f}"),
        report.Target(
            "peak memory of submit",
            300,
            max(a.peak_mib for p in databases for a in p.submit_timings),
            "{:.0f} MiB",
            is_upper_bound=True,
        ),
        report.Target(
            "PostgreSQL, until the last wakeup",
            2,
            median(a.wakeups_seconds for a in arrived),
            "{:.2f} s",
            is_upper_bound=True,
        ),
    ]
    for place in databases:
        for what, wanted, status in (("slowest kind of page", 20, False), ("status", 10, True)):
            for share in (0.5, 0.99):
                targets.append(
                    report.Target(
                        f"{place.name}, {what}, p{share * 100:.0f}",
                        wanted,
                        place.max_read_ms(share, status=status),
                        "{:.1f} ms",
                        is_upper_bound=True,
                    )
                )
    report.print_targets(targets)


if __name__ == "__main__":
    main()
