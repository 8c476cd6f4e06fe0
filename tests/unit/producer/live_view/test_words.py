from datetime import UTC, datetime
from typing import Any

import pytest

from models.privacy import terminal
from models.states import BatchStatus
from producer.batches.batch_view import TIMESTAMP_FIELDS, BatchView, JobCounts
from producer.batches.progress.eta import Eta
from producer.batches.progress.progress_tracker import ActiveWorker, BatchProgress
from producer.live_view import words

ETA = Eta(1_000.0, 170.0, 120.0, 300.0)


def progress_of(**fields: Any) -> BatchProgress:
    timestamps = {**dict.fromkeys(TIMESTAMP_FIELDS), "created_at": datetime(2026, 1, 2, tzinfo=UTC)}
    batch = BatchView(
        id="batch_1",
        status=BatchStatus.IN_PROGRESS,
        name=None,
        pipeline="reviews",
        task="sentiment-analysis",
        model="m",
        revision="abc",
        dtype=None,
        device=None,
        parameters={},
        metadata={},
        priority=0,
        counts=JobCounts(30_000, 12_000, 88, 0, 0),
        tokens=90,
        padded_tokens=100,
        device_seconds=1.0,
        jobs_per_second=850.0,
        error_code=None,
        error_message=None,
        timestamps=timestamps,
    )
    workers = (ActiveWorker("w-1", "here", "cuda:0", 2, 2_048), ActiveWorker("w-2", None, None, 1, 1))
    defaults: dict[str, Any] = {
        "batch": batch,
        "active_workers": workers,
        "failures": (("text_too_long", 80), ("empty_text", 8)),
        "eta": ETA,
    }
    return BatchProgress(**defaults | fields)


def test_line_parts() -> None:
    assert words.line_parts(progress_of()) == [
        "1,000 jobs/s",
        "about 3 min left (2 min to 5 min)",
        "88 failed",
        "2 workers",
        "padding 10.0%",
    ]


def test_without_an_estimate_the_average_rate_is_shown() -> None:
    assert words.line_parts(progress_of(eta=None, active_workers=()))[:2] == ["850 jobs/s", "88 failed"]


def test_details_under_the_bar() -> None:
    assert words.details(progress_of()).splitlines() == [
        "  jobs      12,000 succeeded, 88 failed, 17,912 unanswered",
        "  pace      1,000 jobs/s, about 3 min left (2 min to 5 min)",
        "  workers   here cuda:0 (2,048 jobs), w-2 (1 job)",
        "  padding   10.0% of the tokens",
        "  failures  80 text_too_long, 8 empty_text",
    ]


def test_control_characters_are_escaped() -> None:
    hostile = progress_of(active_workers=(ActiveWorker("w", "here\x1b[2J", "cpu", 1, 1),), failures=(("a\x1b]0;b", 1),))

    assert "\x1b" not in words.details(hostile)


def test_long_lists_are_shortened() -> None:
    many = progress_of(
        active_workers=tuple(ActiveWorker(f"w-{n}", "here", "cpu", 1, 1) for n in range(9)),
        failures=tuple((f"code_{n}", 9 - n) for n in range(9)),
    )

    assert words.format_workers(many).endswith("and 5 more")
    assert words.format_failures(many).endswith("4 code_5, …")


def test_a_rate_that_varies_too_much() -> None:
    assert words.format_time_left(Eta(1.0, 60.0, 30.0, None)) == "about 60 s left (at least 30 s)"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (119, "119 s"), (120, "2 min"), (7_200, "2 h"), (10 * 86_400, "10 d")]
)
def test_durations(seconds: float, text: str) -> None:
    assert terminal.format_duration(seconds) == text
