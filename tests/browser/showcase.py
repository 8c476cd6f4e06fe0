"""A system in the middle of a working day, for pictures: pipelines, batches with failures, workers, a schedule."""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import insert, text

from models.db import Database
from models.schema import upgrade
from models.states import BatchStatus
from models.tables.service import Activity
from models.tables.workers import Worker
from tests.factories.batch_rows import insert_batch
from tests.factories.schedules import ScheduleHarness
from tests.factories.served_app import served
from tests.fake_worker import end_batch, write_results
from tests.servers import Valkey

REVIEWS, TICKETS, INVOICES, ARTICLES = "review-sentiment", "ticket-topics", "invoice-entities", "article-summaries"
PIPELINES: Mapping[str, Mapping[str, str]] = {
    REVIEWS: {"task": "sentiment-analysis", "model": "distilbert-base-uncased-finetuned-sst-2-english"},
    TICKETS: {"task": "text-classification", "model": "acme/ticket-topics"},
    INVOICES: {"task": "ner", "model": "dslim/bert-base-NER"},
    ARTICLES: {"task": "summarization", "model": "sshleifer/distilbart-cnn-12-6"},
}
REVISION = "714eb0fa89d2f80546fda750413ed43d93601a13"
REVIEW_TEXTS = (
    "The parcel came a day early, and the lamp is lovely.",
    "Broke after a week. The shop never answered my letter.",
    "Good value, but the manual is only in Finnish.",
    "My third pair; I would not run in anything else.",
    "The zip failed on the first trip. Returned.",
)
LETTER = "Dear shop, I kept a diary of all that has happened to me with your lamp since the day on which it came. "
LONG_TEXT = (LETTER * (1_204_512 // len(LETTER) + 1))[:1_204_512]
MESSAGES = {
    "out_of_memory": "out of memory: the input has 511 tokens, and 212 MiB are free",
    "text_too_long": "the text has 1,204,512 characters, and a field may have 1,000,000",
}
# The rate of each minute of the last hour, jobs; a break for a new model at 20 minutes ago.
JOBS_PER_MINUTE = {REVIEWS: 2_600, TICKETS: 1_500, INVOICES: 640, ARTICLES: 210}
SMALL = (
    (REVIEWS, "reviews of Sunday", 18_240, 0, BatchStatus.COMPLETED),
    (INVOICES, "invoices, week 47", 9_310, 0, BatchStatus.COMPLETED),
    (ARTICLES, "news of the morning", 1_204, 0, BatchStatus.COMPLETED),
    (TICKETS, "tickets of the German shop", 6_022, 0, BatchStatus.COMPLETED),
    (REVIEWS, "app store, October", 41_873, 0, BatchStatus.COMPLETED),
    (TICKETS, "chats that were handed over", 2_415, 0, BatchStatus.CANCELLED),
    (INVOICES, "scans without a date", 830, 830, BatchStatus.FAILED),
    (ARTICLES, "archive 2019", 12_400, 0, BatchStatus.COMPLETED),
    (REVIEWS, "hotel reviews, Lisbon", 7_702, 0, BatchStatus.COMPLETED),
    (TICKETS, "returns desk", 3_118, 0, BatchStatus.COMPLETED),
    (INVOICES, "suppliers A to F", 15_630, 0, BatchStatus.COMPLETED),
    (REVIEWS, "survey, free text", 5_411, 0, BatchStatus.COMPLETED),
    (ARTICLES, "press releases", 640, 0, BatchStatus.COMPLETED),
    (TICKETS, "complaints of the quarter", 22_870, 0, BatchStatus.COMPLETED),
    (REVIEWS, "reviews of Saturday", 17_905, 0, BatchStatus.COMPLETED),
    (INVOICES, "invoices, week 46", 9_127, 0, BatchStatus.COMPLETED),
    (TICKETS, "tickets of the French shop", 4_876, 0, BatchStatus.COMPLETED),
    (REVIEWS, "marketplace, shoes", 12_318, 0, BatchStatus.COMPLETED),
)


@contextmanager
def showcase(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Yield the address of a server over such a system, the id of a batch that runs, and that of one with failures."""
    url = f"sqlite:///{folder / 'showcase.db'}"
    upgrade(url)
    _run_schedule(url, folder)
    database = Database(url)
    try:
        for number, small in enumerate(SMALL):
            _insert_ended(database, number, *small)
        failed = _insert_reviews(database, "reviews of October", jobs=4_120)
        end_batch(database, failed, BatchStatus.COMPLETED)
        running = _insert_reviews(database, "reviews of November", jobs=6_000)
        waiting = insert_batch(database, 800, pipeline=TICKETS, task="text-classification", name="tickets of Monday")
        _date(database, waiting, 90)
        _insert_workers(database)
        _insert_activity(database)
        _set_revision(database)
        with (
            Valkey() as valkey,
            served(database, pipelines=PIPELINES, lease_seconds=600, redis_url=valkey.url) as address,
        ):
            yield address, running, failed
    finally:
        database.close()


def _insert_reviews(database: Database, name: str, jobs: int) -> str:
    """A batch with 4,120 results, some of them failures of two kinds."""
    rng = random.Random(7)
    codes = {place: rng.choice(list(MESSAGES)) for place in range(5, 4_120, 97)}
    inputs = [{"text": _text_of(place, codes.get(place))} for place in range(jobs)]
    batch_id = insert_batch(
        database, inputs, slice_size=1_024, pipeline=REVIEWS, name=name, metadata_={"shop": "north"}
    )
    outputs: list[tuple[int, Any]] = []
    for place in range(4_120):
        if place in codes:
            outputs.append((place, codes[place]))
        else:
            label = "NEGATIVE" if place % 5 in (1, 4) else "POSITIVE"
            outputs.append((place, {"label": label, "score": round(1 - rng.random() ** 3 * 0.45, 4)}))
    for first in range(0, len(outputs), 1_000):
        write_results(database, batch_id, outputs[first : first + 1_000])
    _date(database, batch_id, 1_500)
    moment = database.sql.now_plus_seconds
    finish = f"UPDATE results SET finished_at = {moment} WHERE batch_id = :id AND seq > :first AND seq <= :last"
    explain = "UPDATE results SET error_message = :message WHERE batch_id = :id AND error_code = :code"
    open_from = 4_096 if jobs > 4_120 else jobs
    claim = f"""UPDATE slices SET first_claimed_at = {moment}, leased_at = {moment},
        state = CASE WHEN start_position < {open_from} THEN 'done' ELSE 'leased' END,
        worker_id = 'gpu-1.0', fencing_token = 1
        WHERE batch_id = :id AND start_position < 5120"""
    keep = f"UPDATE slices SET lease_expires_at = {moment} WHERE batch_id = :id AND state = 'leased'"
    with database.write() as connection:
        for first in range(0, 4_120, 40):  # slower at first, faster once a second worker helps
            seconds = -1_440 * (1 - (first / 4_120) ** 0.8) - rng.random() * 4
            values = {"seconds": seconds, "id": batch_id, "first": first, "last": first + 40}
            connection.execute(text(finish), values)
        for code, message in MESSAGES.items():
            connection.execute(text(explain), {"code": code, "message": message, "id": batch_id})
        connection.execute(text("UPDATE batches SET device_seconds = 212.5 WHERE id = :id"), {"id": batch_id})
        connection.execute(text("UPDATE results SET slice_id = 1 WHERE batch_id = :id"), {"id": batch_id})
        connection.execute(text(claim), {"seconds": -1_440.0, "id": batch_id})
        connection.execute(text(keep), {"seconds": 3_600.0, "id": batch_id})
    return batch_id


def _text_of(place: int, code: str | None) -> str:
    """The text of a job, one that explains the code with which it fails."""
    if code == "text_too_long":
        return LONG_TEXT
    return LETTER * 22 if code == "out_of_memory" else REVIEW_TEXTS[place % len(REVIEW_TEXTS)]


def _insert_ended(
    database: Database, number: int, pipeline: str, name: str, total: int, failed: int, status: BatchStatus
) -> None:
    """A batch whose counts say how large it was; few of its rows are there."""
    outputs: list[tuple[int, Any]] = [(0, "text_too_long" if failed else {"label": "POSITIVE", "score": 0.9})]
    batch_id = insert_batch(database, 2, pipeline=pipeline, task=PIPELINES[pipeline]["task"], name=name)
    write_results(database, batch_id, [*outputs, (1, {"label": "POSITIVE", "score": 0.97})])
    end_batch(database, batch_id, status)
    age = 2_400 + number * 6_300
    _date(database, batch_id, age)
    cancelled = total // 3 if status is BatchStatus.CANCELLED else 0
    ended = f"{status.value}_at"
    with database.write() as connection:
        connection.execute(
            text(
                f"UPDATE batches SET total = :total, succeeded = :succeeded, failed = :failed, cancelled = :cancelled,"
                f" {ended} = {database.sql.now_plus_seconds} WHERE id = :id"
            ),
            {
                "total": total,
                "succeeded": total - failed - cancelled,
                "failed": failed,
                "cancelled": cancelled,
                "seconds": -age + 30.0 + total / 40,
                "id": batch_id,
            },
        )


def _date(database: Database, batch_id: str, age: float) -> None:
    with database.write() as connection:
        moment = database.sql.now_plus_seconds
        statement = f"UPDATE batches SET created_at = {moment}, in_progress_at = {moment} WHERE id = :id"
        connection.execute(text(statement), {"seconds": -age, "id": batch_id})


def _insert_workers(database: Database) -> None:
    places = (("gpu-1", 0, REVIEWS), ("gpu-1", 1, TICKETS), ("gpu-2", 0, INVOICES), ("gpu-2", 1, ARTICLES))
    with database.write() as connection:
        for number, (host, device, pipeline) in enumerate(places):
            values = {
                "id": f"{host}.{device}",
                "host": host,
                "pid": 4_100 + number,
                "device": f"cuda:{device}",
                "pipeline": pipeline,
                "model": PIPELINES[pipeline]["model"],
                "revision": REVISION,
                "served_pipelines": {pipeline: "hash"},
                "state": "ready",
                "started_at": datetime.now(UTC) - timedelta(hours=9),
                "heartbeat_at": datetime.now(UTC),
            }
            connection.execute(insert(Worker).values(**values))


def _set_revision(database: Database) -> None:
    """Give all batches a revision as the Hub has them, that of the workers."""
    with database.write() as connection:
        for table in ("batches", "model_versions", "workers"):
            connection.execute(text(f"UPDATE {table} SET revision = :revision"), {"revision": REVISION})


def _insert_activity(database: Database) -> None:
    """What four workers did in each minute of the last hour."""
    rng = random.Random(3)
    now = int(datetime.now(UTC).timestamp()) // 60
    workers = {REVIEWS: "gpu-1.0", TICKETS: "gpu-1.1", INVOICES: "gpu-2.0", ARTICLES: "gpu-2.1"}
    rows = []
    for age in range(61):
        for pipeline, usual in JOBS_PER_MINUTE.items():
            is_idle = pipeline == TICKETS and 18 <= age <= 26
            jobs = 0 if is_idle else int(usual * (0.85 + 0.3 * rng.random()) * (0.75 if age > 40 else 1))
            row = {"minute": now - age, "worker_id": workers[pipeline], "tenant": "default", "pipeline": pipeline}
            if jobs:
                busy = {"tokens": jobs * 42, "padded_tokens": jobs * 45, "device_seconds": 60 * jobs / usual / 1.3}
                rows.append({**row, "error_code": "", "jobs": jobs, **busy})
            if age % 7 == 3 and pipeline in (REVIEWS, INVOICES):
                none = {"tokens": 0, "padded_tokens": 0, "device_seconds": 0.0}
                rows.append({**row, "error_code": "text_too_long", "jobs": 2 + age % 5, **none})
    with database.write() as connection:
        connection.execute(insert(Activity), rows)


def _run_schedule(url: str, folder: Path) -> None:
    """A nightly schedule with a month of runs; in the last nights the labels drift."""
    rng = random.Random(11)
    harness = ScheduleHarness(url, folder)
    today = datetime.now(UTC).replace(hour=2, minute=0, second=0, microsecond=0)
    if today > datetime.now(UTC) - timedelta(minutes=10):
        today -= timedelta(days=1)
    first = today - timedelta(days=34)
    harness.create_schedule("nightly-tickets", now=first - timedelta(hours=3), alert_drift=0.3)
    for night in range(35):
        moment = first + timedelta(days=night)
        for number in range(60 + rng.randrange(40)):
            harness.tickets.insert_ticket(moment - timedelta(hours=20, minutes=-number))
        if night in (9, 23):
            harness.tick(moment + timedelta(hours=9))
        share = 0.72 if night >= 33 else 0.24

        def answer(_: Any, share: float = share) -> dict[str, Any]:
            label = "NEGATIVE" if rng.random() < share else "POSITIVE"
            return {"label": label, "score": round(0.75 + 0.25 * rng.random(), 4)}

        harness.run_schedule(moment, answer, failures_per_claim=7 if night == 17 else 0)
    age = (datetime.now(UTC) - today).total_seconds()
    for place, row in enumerate(harness.query("SELECT batch_id FROM runs ORDER BY scheduled_at DESC")):
        if row.batch_id:
            _date(harness.database, row.batch_id, age + 86_400 * place)
    harness.close()
