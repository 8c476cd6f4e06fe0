"""The pages with a million jobs and 10,000 batches: the server's time for each, bytes, and the cost of open pages."""

import argparse
import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog
from starlette.testclient import TestClient

from benchmarks import deployments, options, report, results_file
from benchmarks.http_door import served
from benchmarks.pages import open_pages, published, timings
from benchmarks.pages.published import MAX_CORE_SHARE, MAX_FIRST_LOAD_KB, MAX_PAGE_MS, TARGET_PAGES
from benchmarks.pages.seeding import Seed, seed
from benchmarks.report import Target
from models.db import Database
from tests.deployment import temporary_deployment
from tests.factories.http_server import app_over
from tests.servers import Postgres


def main() -> None:
    """Print the tables, and save the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pages", description=__doc__)
    parser.add_argument("--jobs", type=int, default=Seed().jobs, help="of the large batch")
    parser.add_argument("--batches", type=int, default=Seed().batches, help="small ones beside it")
    parser.add_argument("--rounds", type=int, default=30, help="calls of each page")
    parser.add_argument("--pages", type=int, default=50, help="that are open")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long they stay open")
    parser.add_argument("--databases", nargs="+", default=["SQLite", "PostgreSQL"], choices=["SQLite", "PostgreSQL"])
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    figures, targets = {}, []
    with options.temporary_folder() as folder:
        for name in asked.databases:
            with _database_url(name, folder) as url:
                seed(url, Seed(asked.jobs, asked.batches))
                figures[name] = _measure(url, folder / name, asked)
            targets += _targets(name, figures[name])
    report.print_targets(targets)
    saved = results_file.save("pages", {"jobs": asked.jobs, "batches": asked.batches, "databases": figures})
    published.publish()
    print(f"saved as {saved}; the table of {published.README.name} has its figures")


@contextmanager
def _database_url(name: str, folder: Path) -> Iterator[str]:
    if name == "SQLite":
        yield f"sqlite:///{folder / 'pages.db'}"
        return
    with deployments.run_servers() as (postgres, _):
        server: Postgres = postgres
        yield server.create_database("pages")


def _measure(url: str, folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    database = Database(url)
    try:
        app = app_over(database, url)
        with TestClient(app) as client:
            pages = timings.time_pages(client, asked.rounds)
            first_load = timings.first_load_bytes(client)
        parts = timings.time_parts(app.state.context, asked.rounds)
        app.state.context.watch.close()
        folder.mkdir()
        with temporary_deployment(folder, database_url=url) as deployment, served.serve(deployment) as server:
            opened = asyncio.run(open_pages.measure(server, database, asked.pages, asked.seconds))
    finally:
        database.close()
    for title, rows in (("pages", pages), ("parts", parts)):
        table = [
            (row.name, f"{row.p50:.1f}", f"{row.p99:.1f}", f"{row.cpu:.1f}", f"{row.bytes:,}", str(row.status))
            for row in rows
        ]
        report.print_table(title, ("", "p50, ms", "p99, ms", "processor, ms", "bytes", "status"), table)
    lists: dict[str, list[Any]] = {"pages": pages, "parts": parts, "open_pages": opened}
    return {"first_load_bytes": first_load} | {key: [asdict(row) for row in rows] for key, rows in lists.items()}


def _targets(database: str, figures: dict[str, Any]) -> list[Target]:
    by_name = {row["name"]: row for row in figures["pages"]}
    targets = [
        Target(f"{database}, {name}, median", MAX_PAGE_MS, by_name[name]["p50"], "{:.0f} ms", is_upper_bound=True)
        for name in TARGET_PAGES
    ]
    kilobytes = figures["first_load_bytes"] / 1000
    targets.append(Target(f"{database}, first load", MAX_FIRST_LOAD_KB, kilobytes, "{:.0f} kB", is_upper_bound=True))
    alone, *opened = figures["open_pages"]
    for row in opened:
        state = "while a worker writes" if row["is_busy"] else "while nothing happens"
        name = f"{database}, {row['pages']} open pages {state}"
        share = row["core_share"] - alone["core_share"]
        targets.append(Target(name, 100 * MAX_CORE_SHARE, 100 * share, "{:.1f} %", is_upper_bound=True))
    return targets


if __name__ == "__main__":
    main()
