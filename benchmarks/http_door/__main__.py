"""The HTTP door: uploads beside the command, 50 pollers, streams beside the file export, and 1,000 idle followers.

Every stage runs on PostgreSQL and on SQLite; the figures are saved, and printed beside their targets.
"""

import argparse
import asyncio
import gc
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from batchmill import GC_THRESHOLDS
from benchmarks import deployments, exports, options, report, results_file
from benchmarks.http_door import followers, pollers, served, streams, uploads
from benchmarks.http_door.uploads import Place
from benchmarks.report import Target
from models.db import Database
from tests.deployment import random_texts
from tests.servers import Postgres, Valkey

POLLERS, FOLLOWERS = 50, 1_000
BUSY_TEXTS = 300_000
MIN_UPLOAD_RATIO, MIN_STREAM_RATIO, MAX_SERVER_MIB = 0.6, 0.5, 238.0  # 250 MB
MAX_STATUS_MS, MAX_PAGE_MS = 20.0, 80.0
STAGES = ("uploads", "pollers", "streams", "followers")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000, help="rows of an upload")
    parser.add_argument("--results", type=int, default=300_000, help="results of a stream, and of what pollers read")
    parser.add_argument("--rounds", type=int, default=1, help="runs of the command and of the upload")
    parser.add_argument("--seconds", type=float, default=15.0, help="how long pollers poll and followers wait")
    parser.add_argument("--stages", nargs="+", default=STAGES, choices=STAGES)
    parser.add_argument("--databases", nargs="+", default=["PostgreSQL", "SQLite"], choices=["PostgreSQL", "SQLite"])
    asked = parser.parse_args()
    gc.set_threshold(*GC_THRESHOLDS)  # as in the command's process, beside which streams are measured
    figures: dict[str, Any] = {}
    targets: list[Target] = []
    with options.temporary_folder() as folder, deployments.run_servers() as (postgres, valkey):
        for place in _places(postgres, valkey, folder):
            if place.name in asked.databases:
                figures[place.name], reached = _measure(place, asked)
                targets += reached
    report.print_targets(targets)
    rows = [{"figure": target.name, "target": target.target, "measured": target.measured} for target in targets]
    results_file.save(
        "http-door", {"items": asked.items, "results": asked.results, "databases": figures, "targets": rows}
    )


def _places(postgres: Postgres, valkey: Valkey, folder: Path) -> Iterator[Place]:
    file = folder / "door.db"

    def remove() -> None:
        for name in ("", "-wal", "-shm"):
            file.with_name(file.name + name).unlink(missing_ok=True)

    create = lambda: postgres.create_database("door")  # noqa: E731
    yield Place("PostgreSQL", create, lambda: postgres.drop_database("door"), folder, valkey)
    yield Place("SQLite", lambda: f"sqlite:///{file}", remove, folder, valkey)


def _measure(place: Place, asked: argparse.Namespace) -> tuple[dict[str, Any], list[Target]]:
    """Run the stages on one kind of database; returns their figures, and those that have targets."""
    figures: dict[str, Any] = {}
    targets: list[Target] = []
    if "uploads" in asked.stages:
        uploaded = uploads.measure(place, asked.items, asked.rounds)
        figures["uploads"] = {**asdict(uploaded), "ratio": round(uploaded.ratio, 3)}
        pace = f"{uploaded.command_pace:,.0f} → {uploaded.upload_pace:,.0f} rows/s"
        ratio = Target(f"{place.name}, upload beside submit ({pace})", MIN_UPLOAD_RATIO, uploaded.ratio)
        memory = (f"{place.name}, server during the upload", MAX_SERVER_MIB, uploaded.server_mib, "{:.0f} MiB", True)
        targets += [ratio, Target(*memory)]
        print(f"{place.name}, reader of uploaded files: peak {uploaded.child_mib:.0f} MiB", flush=True)
    if {"pollers", "streams", "followers"} & set(asked.stages):
        with place.deployment() as deployment, served.serve(deployment) as server:
            database = Database(deployment.database_url)
            exports.insert_results(database, asked.results)
            stages = _Stages(place, asked, database, server)
            for name in asked.stages:
                if name != "uploads":
                    figures[name], reached = getattr(stages, name)(deployment)
                    targets += reached
            database.close()
    return figures, targets


class _Stages:
    """The stages that read results of a batch."""

    def __init__(self, place: Place, asked: argparse.Namespace, database: Database, server: served.Served) -> None:
        self._place = place
        self._asked = asked
        self._database = database
        self._server = server

    def pollers(self, deployment: Any) -> tuple[Any, list[Target]]:
        """Poll beside an idle machine, and beside a worker that answers a large batch."""
        saved, targets = {}, []
        for name in ("nothing else", "a busy worker"):
            if name != "nothing else":
                deployment.client.submit(deployments.NO_OP_PIPELINE, random_texts(BUSY_TEXTS))
                deployments.start_worker(deployment)
            polling = pollers.measure(
                name, self._server, exports.BATCH_ID, self._asked.results, POLLERS, self._asked.seconds
            )
            measured = asyncio.run(polling)
            halves = zip(("status", "page"), measured.milliseconds(0.5), measured.milliseconds(0.99), strict=True)
            saved[name] = {kind: {"p50": round(p50, 1), "p99": round(p99, 1)} for kind, p50, p99 in halves}
            saved[name]["core_share"] = {"server": round(measured.core_share, 3)}
            for kind, limit in (("status", MAX_STATUS_MS), ("page", MAX_PAGE_MS)):
                title = f"{self._place.name}, {kind} p99 of {POLLERS} pollers beside {name}"
                targets.append(Target(title, limit, saved[name][kind]["p99"], "{:.1f} ms", is_upper_bound=True))
        return saved, targets

    def streams(self, deployment: Any) -> tuple[Any, list[Target]]:
        """Read all results."""
        paces = streams.measure(
            self._database, self._server, exports.BATCH_ID, self._asked.results, deployment.folder, self._asked.rounds
        )
        targets = [
            Target(f"{self._place.name}, {name} beside the file export", MIN_STREAM_RATIO, pace / paces[streams.EXPORT])
            for name, pace in paces.items()
            if name != streams.EXPORT
        ]
        return {name: round(pace) for name, pace in paces.items()}, targets

    def followers(self, deployment: Any) -> tuple[Any, list[Target]]:
        """Let followers wait."""
        batch = deployment.client.submit(deployments.NO_OP_PIPELINE, ["a"], priority=-1000, name="idle")
        measured = asyncio.run(followers.measure(self._server, batch.id, FOLLOWERS, self._asked.seconds))
        title = f"{self._place.name}, {FOLLOWERS:,} idle followers"
        memory = (f"{title}: more memory", MAX_SERVER_MIB, measured.mib, "{:.0f} MiB", True)
        processor = (f"{title}: share of a core", 0.2, measured.core_share, "{:.3f}", True)
        return asdict(measured), [Target(*memory), Target(*processor)]


if __name__ == "__main__":
    main()
