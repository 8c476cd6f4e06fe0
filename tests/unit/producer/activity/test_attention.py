"""What needs attention, decided from facts."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from models.states import BatchStatus
from producer.activity import attention
from producer.activity.attention import PROBLEM, WARNING, Facts, OpenDeadline, StuckBatch, TroubledBatch
from producer.activity.failures import FailureCount
from producer.batches.blockers import LoadFailureView
from producer.workers.workers import WorkerView

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


def decide(**facts: Any) -> list[tuple[str, str, str, str]]:
    found = attention.decide_attention(Facts(NOW, **facts))
    return [(item.level, item.subject, item.name, item.message) for item in found]


def troubled(number: int = 1, status: BatchStatus = BatchStatus.COMPLETED, failed: int = 3, **fields: Any) -> Any:
    values = {"name": None, "pipeline": "p", "total": 10, "error_code": None}
    return TroubledBatch(id=f"b{number}", status=status, failed=failed, **{**values, **fields})


def gone_worker(worker_id: str = "w") -> WorkerView:
    return WorkerView(worker_id, "gpu-1", 7, "cpu", "p", "m", None, ["p"], "ready", 9.0, 9.0, 300.0, alive=False)


def schedule(state: str, drift: dict[str, Any] | None = None, alert_drift: float | None = None) -> Any:
    error = "the source is closed" if state == "failed" else None
    run = SimpleNamespace(summary={"drift": drift}, error_message=error, definition={"alert_drift": alert_drift})
    view = SimpleNamespace(name="nightly")
    needs_attention = state in ("overdue", "late", "failed", "missed", "skipped")
    return SimpleNamespace(view=view, last_run=run, state=state, needs_attention=needs_attention)


def test_all_is_well() -> None:
    assert decide(schedules=[schedule("active")]) == []


def test_a_pipeline_that_no_worker_serves() -> None:
    assert decide(unserved=[("p", 1200)]) == [
        (PROBLEM, "pipeline", "p", "no worker serves p, and 1,200 jobs wait for it")
    ]
    assert decide(unserved=[("p", 1)])[0][3] == "no worker serves p, and 1 job waits for it"


def test_a_batch_that_waits_for_another_revision() -> None:
    stuck = StuckBatch("b", "p", "it waits for a worker with revision abc")

    assert decide(stuck=[stuck]) == [
        (PROBLEM, "batch", "b", "the oldest batch of p does not run: it waits for a worker with revision abc")
    ]


def test_redis_that_does_not_answer() -> None:
    [item] = decide(redis_trouble="Redis at redis://r does not answer: refused")

    assert item[:3] == (PROBLEM, "doctor", "")
    assert item[3].startswith("Redis at redis://r does not answer: refused; work goes on")


def test_a_load_failure_says_more_than_that_nobody_serves_it() -> None:
    failure = LoadFailureView("w", "p", "gpu-1", "cuda:0", "m", "model_missing", "no such model", 2, 30.0)

    [item] = decide(unserved=[("p", 1)], load_failures=[failure])

    assert item[:3] == (PROBLEM, "pipeline", "p")
    assert "no such model" in item[3]


def test_batches_that_failed_come_before_those_with_failed_jobs() -> None:
    failed = troubled(1, BatchStatus.FAILED, error_code="crash_loop", name="reviews")

    items = decide(batches=[troubled(2), failed, troubled(3, failed=9)])

    assert [item[2] for item in items] == ["b1", "b3", "b2"]
    assert items[0][3] == "reviews failed with crash_loop"
    assert items[1][3] == "b3 has 9 failed of 10 jobs"


def test_many_of_a_kind_are_counted() -> None:
    items = decide(batches=[troubled(number) for number in range(50)])

    assert len(items) == attention.MAX_OF_A_KIND + 1
    assert items[-1] == (WARNING, "batches", "", "47 more batches like these")


@pytest.mark.parametrize(
    ("paces", "seconds_left", "expected"),
    [
        ({"p": 10.0}, 90.0, "needs about"),
        ({"p": 10.0}, 110.0, None),
        ({}, 600.0, "nothing was computed"),
        ({}, 7200.0, None),
        ({"p": 10.0}, -5.0, "needs about"),
    ],
)
def test_deadlines_in_danger(paces: dict[str, float], seconds_left: float, expected: str | None) -> None:
    items = decide(deadlines=[OpenDeadline("b", None, "p", 1000, seconds_left)], paces=paces)

    assert [expected in item[3] for item in items if expected] == [True] * len(items)
    assert bool(items) == (expected is not None)


@pytest.mark.parametrize(
    ("state", "level"),
    [("overdue", PROBLEM), ("failed", PROBLEM), ("missed", PROBLEM), ("late", WARNING), ("skipped", WARNING)],
)
def test_schedules(state: str, level: str) -> None:
    [item] = decide(schedules=[schedule(state)])

    assert item[:3] == (level, "schedule", "nightly")


@pytest.mark.parametrize(("worst", "limit", "count"), [(0.3, None, 0), (0.1, 0.05, 1), (0.3, 0.5, 0)])
def test_drift(worst: float, limit: float | None, count: int) -> None:
    items = decide(schedules=[schedule("active", {"worst": worst, "sentence": "label A 10 % to 40 %"}, limit)])

    assert len(items) == count
    assert all("label A" in item[3] for item in items)


def test_guards_workers_and_maintenance() -> None:
    items = decide(
        blocked=[FailureCount("guard_blocked", 3, (("p", 2), ("q", 1)))],
        workers=[gone_worker()],
        maintenance_failures={"reclaim": 4},
        unreadable_schedules="schedule x can't be read",
    )

    assert [item[1] for item in items] == ["schedules", "maintenance", "pipeline", "pipeline", "workers"]
    assert items[3][3] == "guards blocked 1 row of q in the last day"
