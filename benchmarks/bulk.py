"""Bulk: a file comes in by the command, a model that does nothing answers it, and pages and status are looked up.

On PostgreSQL and on SQLite, against one Celery message and one RQ job for each row.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks import arrivals, environments, lookups, mills, options, report
from benchmarks.arrivals import Arrival
from benchmarks.contest import Contestant, held
from benchmarks.lookups import STATUS, percentile
from producer.results.pages import PAGE_ROWS
from tests.mill import Mill
from tests.servers import Postgres, Valkey

PEER_SHARE = 20  # the peers get a twentieth of the rows, or their runs would take minutes
SIZES = (10_000, 100_000, 1_000_000)
MOST_SECONDS = 1_800.0
HERE = Path(__file__).resolve().parent.parent

# Over all batches, since a worker answers them in turns.
WORKED = """
SELECT sum(succeeded) AS jobs, max(completed_at) AS until, (SELECT min(claimed_at) FROM slices) AS since FROM batches
"""
SECONDS = {
    "PostgreSQL": f"SELECT jobs, extract(epoch FROM until - since) AS seconds FROM ({WORKED}) w",
    "SQLite": f"SELECT jobs, (julianday(until) - julianday(since)) * 86400 AS seconds FROM ({WORKED}) w",
}


@dataclass
class Place:
    """A kind of database: what came in by which run, each run in a new database, and how that was read back."""

    name: str
    create: Callable[[], str]
    drop: Callable[[], None]
    folder: Path
    valkey: Valkey
    arrivals: list[Arrival] = field(default_factory=list)
    jobs_per_second: float = 0.0
    looks: dict[int, Mapping[str, Sequence[float]]] = field(default_factory=dict)

    @contextmanager
    def mill(self) -> Iterator[Mill]:
        """A mill on a new database; no bell hangs there."""
        self.valkey.flush()
        try:
            with mills.mill_on(self.create(), self.valkey, self.folder / self.name) as mill:
                yield mill
        finally:
            self.drop()

    def arrive(self, path: Path, rows: int) -> float:
        """Seconds until the file's rows are accepted, and so durable."""
        with self.mill() as mill:
            self.arrivals.append(arrivals.submitted(mill, self.valkey, path, rows))
        return self.arrivals[-1].accepted

    def answer(self, files: Mapping[int, Path]) -> None:
        """Submit all files, have one worker answer them, and look the results up."""
        with self.mill() as mill:
            batches = {}
            for rows, path in files.items():
                self.valkey.flush()  # the bells of the one before
                batches[rows] = arrivals.submitted(mill, self.valkey, path, rows).batch_id
            mills.start_worker(mill)
            for batch_id in batches.values():
                mill.client.batch(batch_id).wait(MOST_SECONDS)
            [worked] = mill.query(SECONDS[self.name])
            if worked.jobs != sum(files):
                raise RuntimeError(f"only {worked.jobs} of {sum(files)} jobs succeeded:\n{mill.log}")
            self.jobs_per_second = float(worked.jobs) / float(worked.seconds)
            for rows, batch_id in batches.items():
                self.looks[rows] = lookups.measured(mill.client.database, batch_id, rows)

    def rows(self) -> Iterator[tuple[str, ...]]:
        """Its lines of the table of look-ups."""
        for jobs, looks in self.looks.items():
            cells = (f"{percentile(taken, 0.5):.1f} / {percentile(taken, 0.99):.1f}" for taken in looks.values())
            yield (f"{self.name}, {jobs:,}", *cells)

    def worst(self, share: float, *, status: bool) -> float:
        """The slowest look-up of its kind, whatever the size, in milliseconds at this percentile."""
        kinds = ((name == STATUS, taken) for looks in self.looks.values() for name, taken in looks.items())
        return max(percentile(taken, share) for is_status, taken in kinds if is_status is status)


def main() -> None:
    """Print the tables."""
    asked = options.parsed(__doc__, items=100_000)
    sizes = [*(size for size in SIZES if size < asked.items), asked.items]
    with options.work_folder() as folder, mills.servers() as (postgres, valkey):
        places = _places(postgres, valkey, folder)
        files = {rows: arrivals.written(folder, rows) for rows in sizes}
        contestants = [
            Contestant(f"Batchmill, {place.name}", partial(place.arrive, files[asked.items], asked.items))
            for place in places
        ]
        contestants += _peers(valkey, asked.items)
        standings = held(contestants, asked.items, asked.rounds)
        for place in places:
            place.answer(files)
    title = f"Bulk: {asked.items:,} short rows of a JSONL file, until they are accepted"
    report.paces(title, "rows/s", standings, contestants[0].name)
    head = ("`batchmill submit`, a process of its own", "then seconds to its last bell", "peak, MiB", "no-op, jobs/s")
    report.table("", head, [
        (place.name, f"{median(a.rung for a in place.arrivals):.2f}", f"{max(a.peak_mib for a in place.arrivals):,.0f}",
         f"{place.jobs_per_second:,.0f}") for place in places
    ])  # fmt: skip
    _tell_look_ups(places)
    _tell_targets(places, standings[contestants[0].name].pace)


def _places(postgres: Postgres, valkey: Valkey, folder: Path) -> list[Place]:
    file = folder / "bulk.db"

    def remove() -> None:
        for name in ("", "-wal", "-shm"):
            file.with_name(file.name + name).unlink(missing_ok=True)

    return [
        Place("PostgreSQL", lambda: postgres.create_database("bulk"), lambda: postgres.drop_database("bulk"), folder,
              valkey),
        Place("SQLite", lambda: f"sqlite:///{file}", remove, folder, valkey),
    ]  # fmt: skip


def _peers(valkey: Valkey, items: int) -> list[Contestant]:
    rows = max(1, items // PEER_SHARE)

    def enqueued(python: Path, peer: str) -> float:
        valkey.flush()
        command = [str(python), "-m", "benchmarks.enqueues", peer, valkey.url, str(rows)]
        done = subprocess.run(command, cwd=HERE, stdout=subprocess.PIPE, text=True, check=True)
        valkey.flush()
        return float(done.stdout) * items / rows  # the contest counts in Batchmill's number of rows

    python = environments.rq()  # made before any clock starts
    return [
        Contestant("Celery, apply_async for each row", lambda: enqueued(Path(sys.executable), "celery")),
        Contestant("RQ, enqueue_many", lambda: enqueued(python, "rq")),
    ]


def _tell_look_ups(places: Sequence[Place]) -> None:
    kinds = list(next(iter(places[0].looks.values())))
    title = f"A page of {PAGE_ROWS:,} results, and the status: ms, p50 / p99 of {lookups.LOOKS} looks"
    report.table(title, ("jobs of the batch", *kinds), [row for place in places for row in place.rows()])


def _tell_targets(places: Sequence[Place], pace: float) -> None:
    arrived = places[0].arrivals
    targets = [
        report.Target("PostgreSQL, rows/s accepted (a million in 20 s)", 50_000, pace, "{:,.0f}"),
        report.Target("peak memory of submit", 300, max(a.peak_mib for p in places for a in p.arrivals), "{:.0f} MiB",
                      at_most=True),
        report.Target("PostgreSQL, until the last bell", 2, median(a.rung for a in arrived), "{:.2f} s", at_most=True),
    ]  # fmt: skip
    for place in places:
        for what, wanted, status in (("slowest kind of page", 20, False), ("status", 10, True)):
            for share in (0.5, 0.99):
                targets.append(
                    report.Target(f"{place.name}, {what}, p{share * 100:.0f}", wanted,
                                  place.worst(share, status=status), "{:.1f} ms", at_most=True)
                )  # fmt: skip
    report.targets(targets)


if __name__ == "__main__":
    main()
