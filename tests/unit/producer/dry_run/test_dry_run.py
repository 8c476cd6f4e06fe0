import tracemalloc
from collections.abc import Iterable, Iterator

import pytest

from models.errors import UnreadableSource
from models.pipelines.builtin import BUILTIN_PIPELINES
from producer.dry_run import dry_run
from producer.dry_run.dry_run import DryRunReport
from producer.readers.rows import Problem, Row, Source
from producer.submission import chunks
from producer.submission.request import SubmitRequest

HUB = {pipeline.name: pipeline for pipeline in BUILTIN_PIPELINES}["sentiment-analysis"]


def report_for(rows: Iterable[Row | Problem]) -> DryRunReport:
    return dry_run.dry_run(SubmitRequest.create(HUB), Source("a.jsonl", "line", iter(rows)), 4)


def texts(last: int, first: int = 1) -> Iterator[Row]:
    return (Row(line, f"id {line}", f"text {line}") for line in range(first, last + 1))


@pytest.mark.parametrize("chunk_jobs", [2, 100])
def test_invalid_rows_are_counted_and_the_first_are_named(monkeypatch: pytest.MonkeyPatch, chunk_jobs: int) -> None:
    monkeypatch.setattr(chunks, "CHUNK_JOBS", chunk_jobs)
    monkeypatch.setattr(dry_run, "MAX_PROBLEMS_LISTED", 3)
    rows = [
        *texts(3),
        Row(4, "id 1", "again"),
        Problem(5, "is bad"),
        Row(6, None, ""),
        Row(7, "id 4", ""),
        *texts(9, 8),
    ]

    report = report_for(rows)

    assert (report.rows, report.jobs, report.slices) == (9, 5, 3)
    assert report.invalid == {"duplicate_id": 1, "invalid_row": 1, "empty_text": 2}
    assert report.problems == [
        "line 4: has custom_id 'id 1', which line 1 has already",
        "line 5: is bad",
        "line 6: text is empty; leave the row out or give it text",
    ]


def test_an_empty_source_is_rejected() -> None:
    with pytest.raises(UnreadableSource, match="has no rows"):
        report_for([])


def test_memory_does_not_grow_with_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_JOBS", 1_000)

    def peak(count: int) -> int:
        tracemalloc.start()
        report_for(texts(count))
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak_bytes

    assert peak(10_000) < 1.5 * peak(2_000)
