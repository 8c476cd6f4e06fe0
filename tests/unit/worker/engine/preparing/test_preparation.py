"""Preparation: portions are bounded by their rows' memory, tokenizer calls by their inputs."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from models.errors import JobError
from tests.factories.guards import MODEL_GUARD, FakeGuardAdapter, make_screener
from worker.adapters.rows import Row
from worker.engine.preparing import preparation
from worker.engine.preparing.input_guards import InputGuards
from worker.engine.preparing.preparation import PreparedRows, RowPreparer
from worker.guards.screener import Screener
from worker.leasing.leases import Job, Lease
from worker.passes.watchdog import Watchdog

LEASE = Lease(1, "batch", 0, 1_000, 1, 1)


class FakeAdapter:
    """Encodes each job as several rows; `calls` has the jobs of each call."""

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


class CountingWatchdog(Watchdog):
    """Counts how often it watches."""

    def __init__(self) -> None:
        super().__init__(1000.0, lambda: None)
        self.count = 0

    def watch(self) -> Any:
        self.count += 1
        return super().watch()


def prepare(adapter: Any, texts: Sequence[str], max_bytes: int, watchdog: Watchdog | None = None) -> list[PreparedRows]:
    jobs = [Job(LEASE, index, {"text": text}, len(text)) for index, text in enumerate(texts)]
    guards = InputGuards(Screener("input", {}, {}, {}), 1_000, lambda _: True)
    preparer = RowPreparer(adapter, lambda _parameters: False, watchdog or CountingWatchdog(), max_bytes, guards)
    return list(preparer.prepare(jobs))


@pytest.mark.parametrize("parts", [1, 50, 500])
@pytest.mark.parametrize("length", [10, 1_000])
def test_portions_are_bounded_by_their_rows(parts: int, length: int) -> None:
    max_bytes = 2_000_000

    portions = prepare(FakeAdapter(parts, length), [f"{index} " + "x" * 20_000 for index in range(40)], max_bytes)

    rows = [row for portion in portions for row in portion.rows]
    assert [(row.job.position, row.part_index) for row in rows] == [
        (job, part) for job in range(40) for part in range(parts)
    ]
    call_bytes = 3 * parts * rows[0].memory_bytes  # 65,536 bytes are three such texts
    assert all(sum(row.memory_bytes for row in portion.rows) < max_bytes + call_bytes for portion in portions)
    assert (len(portions) > 1) is (sum(row.memory_bytes for row in rows) > max_bytes)


def test_each_call_is_watched_separately() -> None:
    adapter, watchdog = FakeAdapter(), CountingWatchdog()

    prepare(adapter, [f"{index} " + "x" * 30_000 for index in range(10)], 10**9, watchdog)

    assert watchdog.count == len(adapter.calls) == 5
    assert all(sum(job.size_bytes for job in jobs) <= preparation.MAX_CALL_BYTES for jobs in adapter.calls)


def test_rejected_jobs_come_with_their_reasons() -> None:
    [portion] = prepare(FakeAdapter(), ["good", "long", "broken", "fine"], 10**9)

    assert [row.job.position for row in portion.rows] == [0, 3]
    assert [(row.job.position, type(error)) for row, error in portion.rejected] == [(1, JobError), (2, ValueError)]
    assert all(error.__traceback__ is None for _, error in portion.rejected)


def test_equal_inputs_become_one_row() -> None:
    [portion] = prepare(FakeAdapter(), ["same", "other", "same"], 10**9)

    assert [[job.position for job in row.jobs] for row in portion.rows] == [[0, 2], [1]]


def test_no_jobs_make_no_portion() -> None:
    assert prepare(FakeAdapter(), [], 10**9) == []


def test_rows_go_on_before_a_guard_model_reads_the_next_chunk() -> None:
    guard_adapter = FakeGuardAdapter()
    screener = make_screener({"injection": MODEL_GUARD}, guard_adapter)
    jobs = [Job(LEASE, index, {"text": f"text {index}"}, 100) for index in range(10)]
    guards = InputGuards(screener, 320, lambda _: True)
    preparer = RowPreparer(FakeAdapter(), lambda _parameters: False, CountingWatchdog(), 10**9, guards)

    read_texts, sizes = [], []
    for portion in preparer.prepare(jobs):
        read_texts.append(sum(map(len, guard_adapter.texts)))
        sizes.append(len(portion.rows))

    assert sizes == [3, 3, 3, 1]
    assert read_texts == [3, 6, 9, 10]
    assert all(row.job.screening is not None for row in portion.rows)


def test_guards_do_not_read_jobs_of_a_lease_that_is_lost_meanwhile() -> None:
    guard_adapter = FakeGuardAdapter()
    other = replace(LEASE, slice_id=2)
    jobs = [Job(LEASE, index, {"text": f"text {index}"}, 100) for index in range(6)]
    jobs += [Job(other, 10, {"text": "text 5"}, 100), Job(other, 11, {"text": "text 11"}, 100)]
    lost: set[int] = set()
    screener = make_screener({"injection": MODEL_GUARD}, guard_adapter)
    guards = InputGuards(screener, 200, lambda lease: lease.slice_id not in lost)
    preparer = RowPreparer(FakeAdapter(), lambda _parameters: False, CountingWatchdog(), 10**9, guards)

    portions = preparer.prepare(jobs)
    next(portions)
    lost.add(LEASE.slice_id)
    rest = list(portions)

    assert guard_adapter.texts == [["text 0", "text 1"], ["text 5"], ["text 11"]], "the fifth has a duplicate"
    assert [[job.position for job in row.jobs] for portion in rest for row in portion.rows] == [[5, 10], [11]]


def test_a_blocked_job_is_rejected_before_it_is_encoded() -> None:
    adapter = FakeAdapter()
    screener = make_screener({"injection": MODEL_GUARD}, FakeGuardAdapter())
    guards = InputGuards(screener, 1_000, lambda _: True)
    jobs = [Job(LEASE, index, {"text": text}, 100) for index, text in enumerate(["fine", "ignore it", "ignore it"])]

    [portion] = RowPreparer(adapter, lambda _parameters: False, CountingWatchdog(), 10**9, guards).prepare(jobs)

    assert [[job.input["text"] for job in call] for call in adapter.calls] == [["fine"]]
    [(row, error)] = portion.rejected
    assert [job.position for job in row.jobs] == [1, 2]
    assert str(error) == "guard injection blocked this input (INJECTION 0.90)"
