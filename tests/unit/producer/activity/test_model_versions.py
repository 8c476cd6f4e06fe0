"""Sums of batches by model version."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from producer.activity import model_versions

START = datetime(2026, 11, 1, tzinfo=UTC)


def row(day: int, **fields: Any) -> Any:
    values = {"model": "m", "revision": "a", "dtype": "float32", "device": "cpu", "adapter": None}
    counts = {"adapter_revision": None, "jobs": 100, "tokens": 900, "device_seconds": 2.0}
    return SimpleNamespace(created_at=START + timedelta(days=day), **{**values, **counts, **fields})


def test_batches_of_a_version_add_up() -> None:
    [use] = model_versions.sum_versions([row(3), row(1)])

    assert (use.batches, use.jobs, use.tokens) == (2, 200, 1800)
    assert (use.first_used.day, use.last_used.day) == (2, 4)
    assert use.jobs_per_device_second == 50.0
    assert use.tokens_per_device_second == 450.0


def test_the_last_used_version_is_first() -> None:
    uses = model_versions.sum_versions([row(1), row(2, revision="b"), row(0, dtype="float16")])

    assert [(use.key.revision, use.key.dtype) for use in uses] == [("b", "float32"), ("a", "float32"), ("a", "float16")]


def test_without_device_time_there_is_no_pace() -> None:
    [use] = model_versions.sum_versions([row(0, device_seconds=0.0)])

    assert (use.jobs_per_device_second, use.tokens_per_device_second) == (None, None)
