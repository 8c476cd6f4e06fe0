"""Which workers a batch waits for."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from models.states import BatchStatus
from producer.batches.batch_view import TIMESTAMP_FIELDS, BatchView, JobCounts
from producer.workers.workers import WorkerView, count_serving, other_revisions


def batch(revision: str | None, status: BatchStatus = BatchStatus.IN_PROGRESS) -> BatchView:
    return BatchView(
        id="b",
        status=status,
        name=None,
        pipeline="p",
        task="t",
        model="m",
        revision=revision,
        dtype=None,
        device=None,
        parameters={},
        metadata={},
        priority=0,
        counts=JobCounts(2, 1, 0, 0, 0),
        tokens=0,
        padded_tokens=0,
        device_seconds=0.0,
        jobs_per_second=None,
        error_code=None,
        error_message=None,
        timestamps=dict.fromkeys(TIMESTAMP_FIELDS, datetime(2026, 1, 1, tzinfo=UTC)),
    )


def worker(revision: str, *, pipeline: str = "p", alive: bool = True) -> WorkerView:
    return WorkerView("w", "host", 1, "cpu", pipeline, "m", revision, [pipeline], "ready", 1.0, 1.0, 1.0, alive)


@pytest.mark.parametrize(
    ("workers", "expected"),
    [
        ([], set()),
        ([worker("old")], set()),
        ([worker("new")], {"new"}),
        ([worker("new"), worker("old")], set()),
        ([worker("new"), worker("old", alive=False)], {"new"}),
        ([worker("new", pipeline="another")], set()),
    ],
)
def test_other_revisions_are_listed_only_without_the_batchs_own(workers: list[WorkerView], expected: set[str]) -> None:
    assert other_revisions(workers, batch("old")) == expected


def test_a_batch_without_revision_or_ended_waits_for_no_revision() -> None:
    assert other_revisions([worker("new")], batch(None)) == set()
    assert other_revisions([worker("new")], batch("old", BatchStatus.COMPLETED)) == set()


def test_workers_serve_their_pipelines_and_only_live_ones_count() -> None:
    two = replace(worker("a"), served_pipelines=["p", "q"])

    assert (two.serves("p"), two.serves("q"), two.serves("r")) == (True, True, False)
    counts = count_serving([two, worker("a"), worker("a", pipeline="q", alive=False)])
    assert (counts["p"], counts["q"], counts["r"]) == (2, 1, 0)
