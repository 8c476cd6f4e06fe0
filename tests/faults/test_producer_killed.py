"""A producer that is killed while it submits: nothing of its batch runs, and nothing of it is lost or in the way."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.toys import TOY, check_outputs, json_lines, numbered, toy_mill
from tests.mill import Mill, until

READ = 10_000  # lines of one chunk: a transaction
LINES = json_lines(numbered(READ + READ // 2))


@pytest.fixture
def ours(tmp_path: Path, database_url: str, redis_url: str) -> Iterator[Mill]:
    settings = {"abandoned_seconds": "3"}
    with toy_mill(tmp_path, database_url=database_url, redis_url=redis_url, slice_jobs=1024, **settings) as ours:
        yield ours


def kill_half_way(ours: Mill) -> str:
    """Kill a submit of which a chunk is in the database; returns the batch's id."""
    producer = ours.start("submit", "-", "-p", TOY, stdin=subprocess.PIPE)
    assert producer.stdin
    with producer.stdin:
        producer.stdin.write(LINES)
        producer.stdin.flush()
        until(lambda: ours.query("SELECT count(*) AS n FROM jobs")[0].n == READ, "the first chunk")
        producer.kill()
        producer.wait()
    return ours.query("SELECT id FROM batches WHERE status = 'validating'")[0].id


def test_its_batch_stays_whole_and_does_not_run_until_somebody_ends_it(ours: Mill) -> None:
    batch_id = kill_half_way(ours)
    ours.start("worker", TOY, BATCHMILL_ABANDONED_SECONDS="86400")
    ours.until_ready()
    texts = numbered(100)
    other = ours.client.submit(TOY, texts).wait(90)
    left = ours.query(
        "SELECT status, (SELECT count(*) FROM jobs WHERE batch_id = :id) AS jobs, "
        "(SELECT count(*) FROM slices WHERE batch_id = :id) AS slices FROM batches WHERE id = :id",
        id=batch_id,
    )
    ours.audit(batch_id)

    cancelled = ours.run("cancel", batch_id)

    assert [tuple(row) for row in left] == [("validating", READ, 0)]
    assert cancelled.returncode == 0, cancelled.stderr
    ours.audit(batch_id)
    view = ours.client.batch(batch_id).view
    assert (view.status, view.counts.total, view.counts.cancelled) == ("cancelled", READ, READ)
    check_outputs(ours, other.id, texts)
    ours.check(other.id, len(texts))


def test_its_batch_is_ended_for_it_once_nobody_has_heard_of_it_for_long(ours: Mill) -> None:
    batch_id = kill_half_way(ours)
    ours.start("foreman")

    batch = ours.client.batch(batch_id).wait(90)

    ours.audit(batch_id)
    assert batch.status == "failed"
    assert batch.request_counts.failed == READ
    assert {row.error_code for row in ours.query("SELECT error_code FROM results")} == {"submit_abandoned"}
