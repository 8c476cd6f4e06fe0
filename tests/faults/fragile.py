"""A worker process whose model kills it on a certain text; run by the test, again and again, as a supervisor would."""

import os
import sys
import time
from types import SimpleNamespace
from typing import Any

from sqlalchemy import text

from models.db import Database
from worker import store
from worker.batching import Encoded, MicroBatch
from worker.claims import Claimant, Job
from worker.doorbell import Doorbell
from worker.engine import Engine
from worker.heartbeat import Heartbeat
from worker.holdings import Holdings
from worker.pace import Pace
from worker.store import Version

KILLER = "this one kills"
LEASE_SECONDS = 1.0


class Fragile:
    """Answers with the text's length, or takes the process down."""

    most_rows = 8

    def encode(self, jobs: list[Job]) -> list[list[Encoded]]:
        return [[Encoded(job, None, len(job.input["text"]), truncated=False)] for job in jobs]

    def forward(self, batch: MicroBatch) -> list[Any]:
        if any(row.job.input["text"] == KILLER for row in batch.rows):
            os.abort()
        return [row.length for row in batch.rows]

    def decode(self, _rows: list[Encoded], raw: list[Any]) -> Any:
        return {"length": raw[0]}


def main(url: str, batch_id: str, worker_id: str) -> None:
    database = Database(url)
    version = Version("sentiment-analysis", "m", "r", "m", "r", "float32", None, "none", "cpu", {})
    claimant = Claimant(worker_id, "fragile", "sentiment-analysis", "m", "r", LEASE_SECONDS)
    holdings = Holdings()
    runtime = SimpleNamespace(adapter=Fragile(), tokens_per_batch=64)
    engine = Engine(
        database, runtime, claimant, Doorbell(), holdings, Pace(10, 4096),
        version_id=store.register(database, version), slice_jobs=16, idle_seconds=0.1, on_defect=lambda: os._exit(70),
    )  # fmt: skip
    heartbeat = Heartbeat(database, holdings, ["fragile"], lease_seconds=LEASE_SECONDS, beat_seconds=0.2)
    heartbeat.pinned(claimant, "cpu")
    heartbeat.start()
    engine.start()
    while True:
        with database.read() as connection:
            status = connection.scalar(text("SELECT status FROM batches WHERE id = :id"), {"id": batch_id})
        if status != "in_progress":
            break
        time.sleep(0.05)
    engine.stop()
    engine.join()
    heartbeat.stop()


if __name__ == "__main__":
    main(*sys.argv[1:4])
