"""What pages show: batches in every state, schedules, workers; with texts that a page must not believe."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import text, update

from models.db import Database
from models.states import BatchStatus
from models.tables.batches import Job
from producer.schedules import registry
from producer.schedules.definition import ScheduleDefinition
from tests.factories.batch_rows import insert_batch
from tests.fake_worker import end_batch, register_worker, write_results

PIPELINE = "sample-sentiment-analysis"
SCRIPT = "<script>alert(1)</script>"
HOSTILE = f"\"'><img src=x onerror=alert(2)>{SCRIPT}\u202e\u200b\n{{{{7*7}}}} &lt;b&gt;"
LONG = "long " * 2_000


@dataclass(frozen=True, slots=True)
class Seeded:
    """The database and the ids of its batches.

    hostile: ended, every text of it is hostile
    running: half done
    failing: ended with failures that a retry may mend
    """

    database: Database
    hostile: str
    running: str
    failing: str

    @property
    def paths(self) -> list[str]:
        """The pages to look at."""
        batches = [path for batch_id in (self.hostile, self.running, self.failing) for path in _pages_of(batch_id)]
        lists = ["/", "/batches", "/submit", "/submit/files", "/schedules", "/pipelines", f"/pipelines/{PIPELINE}"]
        schedules = ["/schedules/nightly", "/schedules/nightly/trigger", "/schedules/chained"]
        return [*lists, *schedules, "/usage", "/workers", "/doctor", *batches, "/nowhere"]


def _pages_of(batch_id: str) -> list[str]:
    page = f"/batches/{batch_id}"
    return [page, f"{page}/results", f"{page}/rows/0", f"{page}/retry", f"{page}/cancel", f"{page}/delete"]


def seed(database: Database) -> Seeded:
    """Fill an empty database."""
    register_worker(database, PIPELINE)
    hostile = _insert_hostile(database)
    running = insert_batch(database, 12, pipeline=PIPELINE, name="reviews of November")
    write_results(database, running, [(place, _answer("POSITIVE")) for place in range(6)])
    failing = insert_batch(database, 40, pipeline=PIPELINE, name="tickets of the week")
    outputs = [(place, "out_of_memory" if place % 5 == 0 else _answer("NEGATIVE")) for place in range(40)]
    write_results(database, failing, outputs)
    end_batch(database, failing)
    for number in range(30):
        small = insert_batch(database, 2, pipeline=PIPELINE, name=f"letters, part {number + 1}")
        write_results(database, small, [(0, _answer("POSITIVE")), (1, _answer("NEGATIVE"))])
        end_batch(database, small)
    _make_recent(database)
    _create_chain(database)
    return Seeded(database, hostile, running, failing)


def _create_chain(database: Database) -> None:
    fields = {"pipeline": PIPELINE, "cron": "0 2 * * *", "file": "in/{time:%Y-%m-%d}.jsonl"}
    following = {"pipeline": PIPELINE, "after": "nightly"}
    for name, definition in (("nightly", fields), ("chained", following)):
        registry.create(database, ScheduleDefinition.from_fields(name, definition), datetime.now(UTC))


def _insert_hostile(database: Database) -> str:
    inputs: list[dict[str, Any]] = [{"text": HOSTILE}, {"text": LONG}, {"text": SCRIPT}, {"text": "plain"}]
    metadata = {HOSTILE: HOSTILE, "long": LONG}
    batch_id = insert_batch(database, inputs, name=HOSTILE, pipeline=PIPELINE, metadata_=metadata)
    with database.write() as connection:
        connection.execute(update(Job).where(Job.batch_id == batch_id, Job.position == 0).values(custom_id=HOSTILE))
        connection.execute(update(Job).where(Job.batch_id == batch_id, Job.position == 2).values(custom_id=SCRIPT))
    outputs = [(0, _answer(HOSTILE)), (1, _answer(LONG)), (2, SCRIPT), (3, {HOSTILE: {"nested": [HOSTILE, 1e300]}})]
    write_results(database, batch_id, outputs)
    with database.write() as connection:
        connection.execute(
            text("UPDATE results SET error_message = :message WHERE batch_id = :id AND status = 'failed'"),
            {"message": HOSTILE, "id": batch_id},
        )
    end_batch(database, batch_id, BatchStatus.COMPLETED)
    return batch_id


def _answer(label: str) -> dict[str, Any]:
    return {"label": label, "score": 0.9}


def _make_recent(database: Database) -> None:
    """Let all batches be of today; the factory's are older than any clock in a test."""
    with database.write() as connection:
        count = connection.scalar(text("SELECT count(*) FROM batches"))
        ids = connection.scalars(text("SELECT id FROM batches ORDER BY created_at")).all()
        for place, batch_id in enumerate(ids):
            moment = database.sql.now_plus_seconds
            statement = f"UPDATE batches SET created_at = {moment}, in_progress_at = {moment} WHERE id = :id"
            connection.execute(text(statement), {"seconds": -60.0 * (count - place), "id": batch_id})
