"""A batch that is worked on while it is read from a pipe, and a submitter that is killed meanwhile."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.toys import TOY, check_outputs, json_lines, numbered, toy_mill
from tests.mill import Mill, until

TEXTS = numbered(400)


@pytest.fixture
def ours(request: pytest.FixtureRequest, tmp_path: Path, database_url: str, redis_url: str) -> Iterator[Mill]:
    settings = {"abandoned_seconds": getattr(request, "param", "3")}
    with toy_mill(tmp_path, database_url=database_url, redis_url=redis_url, slice_jobs=8, **settings) as ours:
        ours.start("worker", TOY)
        ours.until_ready()
        yield ours


def submit(ours: Mill, *options: str) -> subprocess.Popen[bytes]:
    return ours.start("submit", "-", "-p", TOY, "--on-invalid", "fail-row", *options, stdin=subprocess.PIPE)


def trickle(ours: Mill, producer: subprocess.Popen[bytes]) -> int:
    """Write one line after another until results have landed; returns how many lines."""
    written = 0

    def landed() -> bool:
        nonlocal written
        assert producer.stdin
        assert producer.poll() is None, ours.log
        if written < len(TEXTS) - 10:
            producer.stdin.write(json_lines(TEXTS[written : written + 1]))
            producer.stdin.flush()
            written += 1
        return bool(ours.query("SELECT count(*) AS n FROM results")[0].n)

    until(landed, "the first results")
    return written


def kill(producer: subprocess.Popen[bytes]) -> None:
    assert producer.stdin
    producer.kill()
    producer.wait()
    producer.stdin.close()


def the_batch(ours: Mill) -> str:
    [row] = ours.query("SELECT id, status, reading FROM batches")
    assert (row.status, bool(row.reading)) == ("in_progress", True)
    ours.audit(row.id)
    return str(row.id)


def test_results_land_before_the_source_has_ended(ours: Mill) -> None:
    producer = submit(ours)
    written = trickle(ours, producer)
    batch_id = the_batch(ours)
    until(lambda: ours.query("SELECT count(*) AS n FROM slices WHERE state <> 'done'")[0].n == 0, "all that is in")

    batch_id = the_batch(ours)
    assert producer.stdin
    producer.stdin.write(json_lines(TEXTS[written:]))
    producer.stdin.close()

    assert producer.wait(60) == 0
    ours.client.batch(batch_id).wait(90)
    ours.check(batch_id, len(TEXTS))
    check_outputs(ours, batch_id, TEXTS)
    assert "is worked on while more is read" in ours.log


def test_a_killed_submitter_s_batch_ends_with_what_it_has(ours: Mill) -> None:
    producer = submit(ours)
    trickle(ours, producer)
    batch_id = the_batch(ours)

    kill(producer)

    batch = ours.client.batch(batch_id).wait(90)
    ours.audit(batch_id)
    assert (batch.status, batch.view.error_code) == ("failed", "submit_abandoned")
    assert batch.request_counts.completed > 0


@pytest.mark.parametrize("ours", ["600"], indirect=True)  # however long the command takes to start
def test_under_a_key_the_same_command_goes_on(ours: Mill) -> None:
    producer = submit(ours, "--idempotency-key", "k")
    trickle(ours, producer)
    batch_id = the_batch(ours)
    kill(producer)

    again = ours.run(
        "submit", "-", "-p", TOY, "--on-invalid", "fail-row", "--idempotency-key", "k", stdin=json_lines(TEXTS)
    )

    assert again.returncode == 0, again.stderr
    assert again.stdout.decode().strip() == batch_id
    ours.client.batch(batch_id).wait(90)
    ours.check(batch_id, len(TEXTS))
    check_outputs(ours, batch_id, TEXTS)
