"""Preparation: windows are bounded by what their rows take, calls of the tokenizer by what they are given."""

from collections.abc import Sequence
from typing import Any

import pytest

from models.errors import JobError
from worker.adapters.rows import Row
from worker.engine import preparation
from worker.engine.preparation import PreparedRows, RowPreparer
from worker.engine.watchdog import Watchdog
from worker.leasing.leases import Job, Lease

LEASE = Lease(1, "batch", 0, 1_000, 1, 1)


class MadeAdapter:
    """Makes rows of some tokens, several of each job; `calls` are the jobs of each call."""

    def __init__(self, parts: int = 1, length: int = 10) -> None:
        self._parts, self._length = parts, length
        self.calls: list[Sequence[Job]] = []

    def encode(self, jobs: Sequence[Job]) -> list[list[Row] | JobError]:
        self.calls.append(jobs)
        if any(job.input["text"] == "broken" for job in jobs):
            raise ValueError("broken")
        return [
            JobError("input_too_long", "too long")
            if job.input["text"] == "long"
            else [Row(job, None, self._length, truncated=False, part_index=part) for part in range(self._parts)]
            for job in jobs
        ]


class Watched(Watchdog):
    """Counts how often it watches."""

    def __init__(self) -> None:
        super().__init__(1000.0, lambda: None)
        self.times = 0

    def watch(self) -> Any:
        self.times += 1
        return super().watch()


def prepared(
    adapter: Any, texts: Sequence[str], most_bytes: int, watchdog: Watchdog | None = None
) -> list[PreparedRows]:
    jobs = [Job(LEASE, place, {"text": text}, len(text)) for place, text in enumerate(texts)]
    preparation = RowPreparer(adapter, lambda _parameters: False, watchdog or Watched(), most_bytes)
    return list(preparation.prepare(jobs))


@pytest.mark.parametrize("parts", [1, 50, 500])
@pytest.mark.parametrize("length", [10, 1_000])
def test_windows_are_bounded_by_their_rows(parts: int, length: int) -> None:
    most = 2_000_000

    found = prepared(MadeAdapter(parts, length), [f"{place} " + "x" * 20_000 for place in range(40)], most)

    rows = [row for window in found for row in window.rows]
    assert [(row.job.position, row.part_index) for row in rows] == [
        (job, part) for job in range(40) for part in range(parts)
    ]
    of_a_call = 3 * parts * rows[0].memory_bytes  # 65,536 bytes are three such texts
    assert all(sum(row.memory_bytes for row in window.rows) < most + of_a_call for window in found)
    assert (len(found) > 1) is (sum(row.memory_bytes for row in rows) > most)


def test_each_call_is_watched_by_itself() -> None:
    adapter, watchdog = MadeAdapter(), Watched()

    prepared(adapter, [f"{place} " + "x" * 30_000 for place in range(10)], 10**9, watchdog)

    assert watchdog.times == len(adapter.calls) == 5
    assert all(sum(job.size_bytes for job in jobs) <= preparation.MAX_CALL_BYTES for jobs in adapter.calls)


def test_what_is_refused_comes_along_with_its_reason_and_nothing_else() -> None:
    [window] = prepared(MadeAdapter(), ["good", "long", "broken", "fine"], 10**9)

    assert [row.job.position for row in window.rows] == [0, 3]
    assert [(row.job.position, type(error)) for row, error in window.rejected] == [(1, JobError), (2, ValueError)]
    assert all(error.__traceback__ is None for _, error in window.rejected)


def test_equal_inputs_become_one_row() -> None:
    [window] = prepared(MadeAdapter(), ["same", "other", "same"], 10**9)

    assert [[job.position for job in row.jobs] for row in window.rows] == [[0, 2], [1]]


def test_nothing_comes_of_nothing() -> None:
    assert prepared(MadeAdapter(), [], 10**9) == []
