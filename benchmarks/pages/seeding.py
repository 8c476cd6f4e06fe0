"""A database with one batch of a million jobs and 10,000 small ones, filled by SQL alone in under a minute.

python -m benchmarks.pages.seeding sqlite:////tmp/pages.db --jobs 1000000 --batches 10000
"""

import argparse
import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from models import schema
from models.db import Database

# The batch of a million jobs is in progress: the last 5 % of its jobs wait.
LARGE_BATCH_ID = "batch_large"
PIPELINES = ("sample-sentiment-analysis", "sample-ner", "sample-summarization", "sample-translation")
TENANTS, SMALL_JOBS, ANSWERED_SHARE = 20, 5, 0.95
SLICE_JOBS = 1_024
ACTIVITY_WORKERS, ACTIVITY_MINUTES, USAGE_DAYS = 16, 1_440, 90

NUMBERS = "WITH RECURSIVE numbers(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM numbers WHERE i + 1 < :count)"

INSERT_VERSION = """
INSERT INTO model_versions (fingerprint, task, model, revision, tokenizer, tokenizer_revision, dtype, attention, device,
                            libraries)
VALUES ('seeded', 'sentiment-analysis', 'sample', 'abc', 'sample', 'abc', 'float32', 'eager', 'cpu', {object})
"""

INSERT_LARGE_BATCH = """
INSERT INTO batches (id, name, pipeline, task, model, revision, parameters, metadata, status, total, succeeded, failed,
                     last_seq, tokens, padded_tokens, device_seconds, created_at, in_progress_at)
VALUES (:id, 'all reviews of the year', :pipeline, 'sentiment-analysis', 'sample', 'abc', {object}, {object},
        'in_progress', :total, :succeeded, :failed, :answered, :answered * 12, :answered * 14, 3100.0,
        {hour_ago}, {hour_ago})
"""

INSERT_LARGE_JOBS = """
INSERT INTO jobs (batch_id, position, custom_id, input)
{numbers} SELECT :id, i, 'review-' || i, {input} FROM numbers
"""

# Every 200th job fails, most of them for their length; finished evenly within the last hour.
INSERT_LARGE_RESULTS = """
INSERT INTO results (batch_id, position, seq, status, output, error_code, error_message, truncated, attempts,
                     model_version_id, finished_at)
{numbers} SELECT :id, i, i + 1,
    CASE WHEN i % 200 = 0 THEN 'failed' ELSE 'succeeded' END,
    CASE WHEN i % 200 = 0 THEN NULL WHEN i % 3 = 0 THEN {negative} ELSE {positive} END,
    CASE WHEN i % 200 = 0 THEN CASE WHEN i % 1000 = 0 THEN 'out_of_memory' ELSE 'text_too_long' END END,
    CASE WHEN i % 200 = 0 THEN 'the text has 900 tokens, and the model takes 512' END,
    i % 50 = 1, 1, (SELECT min(id) FROM model_versions), {spread}
FROM numbers
"""

INSERT_LARGE_SLICES = """
INSERT INTO slices (batch_id, start_position, size, state, attempts, fencing_token, first_claimed_at, leased_at,
                    done_at)
{numbers} SELECT :id, i * :slice, CASE WHEN (i + 1) * :slice > :total THEN :total - i * :slice ELSE :slice END,
    CASE WHEN (i + 1) * :slice <= :answered THEN 'done' ELSE 'queued' END, 1, 1, {hour_ago}, {hour_ago}, {spread}
FROM numbers
"""

# One in 50 has failures, one in 200 failed as a whole, the newest 20 are in progress; over the last 30 days.
INSERT_SMALL_BATCHES = """
INSERT INTO batches (id, name, pipeline, task, model, revision, parameters, metadata, tenant, status, total, succeeded,
                     failed, last_seq, tokens, padded_tokens, device_seconds, error_code, error_message,
                     created_at, in_progress_at, completed_at, failed_at)
{numbers} SELECT 'batch_' || {number}, 'tickets of day ' || (i / 300), {pipeline},
    'sentiment-analysis', 'sample', 'abc', {object}, {object}, 'tenant-' || (i % :tenants),
    CASE WHEN i >= :count - 20 THEN 'in_progress' WHEN i % 200 = 7 THEN 'failed' ELSE 'completed' END,
    :jobs,
    CASE WHEN i >= :count - 20 THEN 0 WHEN i % 50 = 0 THEN :jobs - 1 ELSE :jobs END,
    CASE WHEN i < :count - 20 AND i % 50 = 0 THEN 1 ELSE 0 END,
    CASE WHEN i >= :count - 20 THEN 0 ELSE :jobs END, 60, 70, 0.1,
    CASE WHEN i < :count - 20 AND i % 200 = 7 THEN 'too_many_failures' END,
    CASE WHEN i < :count - 20 AND i % 200 = 7 THEN 'more than 10 jobs failed' END,
    {over_month}, {over_month},
    CASE WHEN i < :count - 20 AND i % 200 <> 7 THEN {over_month} END,
    CASE WHEN i < :count - 20 AND i % 200 = 7 THEN {over_month} END
FROM numbers
"""

INSERT_SMALL_JOBS = """
INSERT INTO jobs (batch_id, position, custom_id, input)
{numbers} SELECT 'batch_' || {number_of_job}, i % :jobs, 'ticket-' || i, {input} FROM numbers
"""

INSERT_SMALL_RESULTS = """
INSERT INTO results (batch_id, position, seq, status, output, error_code, error_message, truncated, attempts,
                     model_version_id, finished_at)
{numbers} SELECT 'batch_' || {number_of_job}, i % :jobs, i % :jobs + 1,
    CASE WHEN i % (:jobs * 50) = 0 THEN 'failed' ELSE 'succeeded' END,
    CASE WHEN i % (:jobs * 50) = 0 THEN NULL ELSE {positive} END,
    CASE WHEN i % (:jobs * 50) = 0 THEN 'text_too_long' END,
    CASE WHEN i % (:jobs * 50) = 0 THEN 'the text has 900 tokens, and the model takes 512' END,
    {false}, 1, (SELECT min(id) FROM model_versions), {over_month_of_jobs}
FROM numbers
"""

INSERT_SMALL_SLICES = """
INSERT INTO slices (batch_id, start_position, size, state, attempts, fencing_token, first_claimed_at, done_at)
{numbers} SELECT 'batch_' || {number}, 0, :jobs,
    CASE WHEN i >= :count - 20 THEN 'queued' ELSE 'done' END, 1, 1, {over_month}, {over_month}
FROM numbers
"""

# For each minute of a day and each worker: two tenants, and one row of failures in ten minutes.
INSERT_ACTIVITY = """
INSERT INTO activity (minute, worker_id, tenant, pipeline, error_code, jobs, tokens, padded_tokens, device_seconds)
{numbers} SELECT {minute} - i % :minutes, 'worker-' || (i / :minutes % :workers),
    'tenant-' || (i / (:minutes * :workers)), {pipeline_of_worker},
    CASE WHEN i % 10 = 3 THEN 'text_too_long' ELSE '' END,
    CASE WHEN i % 10 = 3 THEN 2 ELSE 900 + i % 400 END, 12000, 14000, 21.0 + i % 20
FROM numbers
"""

INSERT_USAGE = """
INSERT INTO usage (day, tenant, pipeline, shard, succeeded, failed, tokens, padded_tokens, device_seconds)
{numbers} SELECT {day}, 'tenant-' || (i / :days % :tenants), {pipeline_of_usage}, 0, 1000 + i % 700, i % 20, 20000,
    22000, 90.0 + i % 60
FROM numbers
"""

INSERT_WORKERS = """
INSERT INTO workers (id, host, pid, device, pipeline, model, revision, served_pipelines, state, state_since)
{numbers} SELECT 'worker-' || i, 'gpu-' || (i / 4), 4000 + i, 'cuda:' || (i % 4), {pipeline}, 'sample', 'abc', {served},
    'ready', {hour_ago}
FROM numbers
"""


@dataclass(frozen=True, slots=True)
class Seed:
    """How much is seeded.

    jobs: of the large batch
    batches: small ones beside it
    """

    jobs: int = 1_000_000
    batches: int = 10_000

    @property
    def answered(self) -> int:
        """Jobs of the large batch that have a result."""
        return int(self.jobs * ANSWERED_SHARE)


def seed(url: str, amount: Seed) -> None:
    """Create the tables of an empty database, and fill them."""
    schema.upgrade(url)
    database = Database(url)
    try:
        with database.write() as connection:
            _insert_large_batch(connection, amount)
            _insert_small_batches(connection, amount)
            _insert_service(connection)
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("ANALYZE"))
    finally:
        database.close()


def _insert_large_batch(connection: Connection, amount: Seed) -> None:
    failed = -(-amount.answered // 200)
    slices = -(-amount.jobs // SLICE_JOBS)
    values: dict[str, Any] = {"id": LARGE_BATCH_ID, "total": amount.jobs, "answered": amount.answered}
    _run(connection, INSERT_VERSION)
    counts = {"failed": failed, "succeeded": amount.answered - failed, "pipeline": PIPELINES[0]}
    _run(connection, INSERT_LARGE_BATCH, **values, **counts)
    _run(connection, INSERT_LARGE_JOBS, id=LARGE_BATCH_ID, count=amount.jobs)
    _run(connection, INSERT_LARGE_RESULTS, id=LARGE_BATCH_ID, count=amount.answered)
    _run(connection, INSERT_LARGE_SLICES, **values, count=slices, slice=SLICE_JOBS)


def _insert_small_batches(connection: Connection, amount: Seed) -> None:
    count = amount.batches
    _run(connection, INSERT_SMALL_BATCHES, count=count, jobs=SMALL_JOBS, tenants=TENANTS)
    _run(connection, INSERT_SMALL_JOBS, count=count * SMALL_JOBS, jobs=SMALL_JOBS)
    _run(connection, INSERT_SMALL_RESULTS, count=max(1, count - 20) * SMALL_JOBS, jobs=SMALL_JOBS, batches=count)
    _run(connection, INSERT_SMALL_SLICES, count=count, jobs=SMALL_JOBS)


def _insert_service(connection: Connection) -> None:
    minutes = {"minutes": ACTIVITY_MINUTES, "workers": ACTIVITY_WORKERS}
    _run(connection, INSERT_ACTIVITY, count=ACTIVITY_MINUTES * ACTIVITY_WORKERS * 8, **minutes)
    _run(connection, INSERT_USAGE, count=USAGE_DAYS * TENANTS * 4, days=USAGE_DAYS, tenants=TENANTS)
    _run(connection, INSERT_WORKERS, count=ACTIVITY_WORKERS)


def _run(connection: Connection, statement: str, **values: Any) -> None:
    """Run a statement whose expressions are those of the connection's database."""
    named = _expressions(connection.dialect.name, values.get("count", 1), values.get("batches", 1))
    filled = text(statement.format(**named))
    connection.execute(filled, {name: value for name, value in values.items() if name in filled.compile().params})


def _expressions(dialect: str, count: int, batches: int) -> dict[str, str]:
    """The expressions that differ between the databases, or that several statements share."""
    is_postgresql = dialect == "postgresql"

    def before(seconds: str) -> str:
        if is_postgresql:
            return f"clock_timestamp() - ({seconds}) * interval '1 second'"
        return f"strftime('%Y-%m-%d %H:%M:%f', 'now', (-({seconds})) || ' seconds')"

    def document(value: str) -> str:
        return f"CAST({value} AS jsonb)" if is_postgresql else value

    def pick(index: str) -> str:
        return "CASE " + " ".join(f"WHEN {index} % 4 = {i} THEN '{name}'" for i, name in enumerate(PIPELINES)) + " END"

    def six_digits(value: str) -> str:
        padded = f"'000000' || ({value})"
        return f"right({padded}, 6)" if is_postgresql else f"substr({padded}, -6)"

    text_of_job = "'{\"text\": \"the parcel number ' || i || ' arrived late, and the box was open\"}'"
    return {
        "numbers": NUMBERS,
        "number": six_digits("i"),
        "number_of_job": six_digits("i / :jobs"),
        "object": document("'{}'"),
        "input": document(text_of_job),
        "negative": document('\'{"label": "NEGATIVE", "score": 0.93}\''),
        "positive": document('\'{"label": "POSITIVE", "score": 0.97}\''),
        "served": document("'{}'"),
        "false": "false" if is_postgresql else "0",
        "hour_ago": before("3600"),
        "spread": before(f"3600.0 * ({count} - i) / {count}"),
        "over_month": before(f"2592000.0 * ({count} - i) / {count}"),
        "over_month_of_jobs": before(f"2592000.0 * ({count} - i) / {count}"),
        "pipeline": pick("i"),
        "pipeline_of_worker": pick(f"(i / {ACTIVITY_MINUTES})"),
        "pipeline_of_usage": pick(f"(i / {USAGE_DAYS * TENANTS})"),
        "minute": "CAST(extract(epoch FROM clock_timestamp()) / 60 AS bigint)"
        if is_postgresql
        else "CAST(strftime('%s', 'now') / 60 AS INTEGER)",
        "day": "to_char(now() - (i % :days) * interval '1 day', 'YYYY-MM-DD')"
        if is_postgresql
        else "strftime('%Y-%m-%d', 'now', (-(i % :days)) || ' days')",
    }


def main() -> None:
    """Seed the database of a URL."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pages.seeding", description=__doc__.split("\n")[0])
    parser.add_argument("url", help="of an empty database, such as sqlite:////tmp/pages.db")
    parser.add_argument("--jobs", type=int, default=Seed().jobs, help="of the large batch")
    parser.add_argument("--batches", type=int, default=Seed().batches, help="small ones")
    asked = parser.parse_args()
    started = time.perf_counter()
    seed(asked.url, Seed(asked.jobs, asked.batches))
    print(f"seeded in {time.perf_counter() - started:.1f} s; the large batch is {LARGE_BATCH_ID}")


if __name__ == "__main__":
    main()
