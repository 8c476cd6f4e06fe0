"""Utilisation of workers and devices."""

from datetime import UTC, datetime
from typing import Any

import pytest

from producer.activity import utilisation
from producer.activity.minutes import Span
from producer.activity.utilisation import WorkerMinute
from producer.workers.workers import WorkerView

SPAN = Span(datetime(2026, 11, 30, 12, 0, 30, tzinfo=UTC), 60)
HOUR = 3600.0


def minute(age: int, device_seconds: float = 27.0, jobs: int = 60) -> WorkerMinute:
    return WorkerMinute(SPAN.last - age, "w", jobs, 2 * jobs, device_seconds)


def worker(**fields: Any) -> WorkerView:
    values = {"id": "w", "host": "h", "pid": 1, "device": "cpu", "pipeline": "p", "model": "m", "revision": None}
    times = {"state_seconds": 1.0, "uptime_seconds": HOUR, "heartbeat_seconds_ago": 1.0, "alive": True}
    return WorkerView(**{**values, **times, "served_pipelines": ["p"], "state": "ready", **fields})


def test_it_is_the_share_of_the_last_five_minutes() -> None:
    activity = utilisation.sum_up(SPAN, HOUR, [minute(age) for age in range(5)])

    assert activity.utilisation == pytest.approx(5 * 27 / 270)
    assert activity.seconds_per_minute[-5:] == (27.0,) * 5
    assert len(activity.seconds_per_minute) == 60


def test_older_minutes_do_not_count() -> None:
    assert utilisation.sum_up(SPAN, HOUR, [minute(5)]).utilisation == 0.0


def test_a_new_worker_counts_since_it_started() -> None:
    assert utilisation.sum_up(SPAN, 30.0, [minute(0, 15.0)]).utilisation == 0.5


def test_it_is_never_more_than_all_of_the_time() -> None:
    assert utilisation.sum_up(SPAN, HOUR, [minute(0, 4000.0)]).utilisation == 1.0


def test_the_pace_is_over_the_minutes_in_which_it_worked() -> None:
    activity = utilisation.sum_up(SPAN, HOUR, [minute(0, jobs=30), minute(40)])

    assert (activity.jobs, activity.jobs_per_second, activity.tokens_per_second) == (90, 1.0, 2.0)


def test_a_worker_that_did_nothing() -> None:
    activity = utilisation.sum_up(SPAN, 0.0, [])

    assert (activity.utilisation, activity.jobs_per_second, activity.tokens_per_second) == (0.0, None, None)


def test_processes_of_a_device_add_up() -> None:
    workers = [worker(id="a"), worker(id="b"), worker(id="c", device="cuda:0"), worker(id="gone", alive=False)]

    devices = utilisation.sum_devices(workers, dict.fromkeys(("a", "b", "c", "gone"), 0.7))

    assert [(item.device, item.processes, item.utilisation) for item in devices] == [
        ("cpu", 2, 1.0),
        ("cuda:0", 1, 0.7),
    ]
