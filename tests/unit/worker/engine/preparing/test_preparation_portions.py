"""Reads and tokenizer calls are bounded, complete and in order."""

import random

import pytest

from worker.engine.preparing import preparation
from worker.leasing.leases import Job, JobSize, Lease, SliceRange


def lease(number: int, jobs: int = 100) -> Lease:
    return Lease(number, "batch", number * jobs, jobs, 1, 1)


def job_sizes(*sizes_by_lease: tuple[Lease, list[int]]) -> list[JobSize]:
    return [
        JobSize(lease, lease.start_position + index, size)
        for lease, sizes in sizes_by_lease
        for index, size in enumerate(sizes)
    ]


def test_small_inputs_of_several_slices_are_read_together() -> None:
    first, second = lease(1), lease(2)

    reads = list(preparation.plan_reads(job_sizes((first, [10] * 100), (second, [10] * 100)), 2_000))

    assert reads == [[SliceRange(first, 100, 200), SliceRange(second, 200, 300)]]


def test_a_large_input_is_read_alone() -> None:
    held = lease(1)

    reads = list(preparation.plan_reads(job_sizes((held, [10, 5_000, 10, 10])), 100))

    assert reads == [[SliceRange(held, 100, 101)], [SliceRange(held, 101, 102)], [SliceRange(held, 102, 104)]]


def test_a_range_spans_answered_jobs() -> None:
    held = lease(1)

    reads = list(preparation.plan_reads([JobSize(held, 103, 10), JobSize(held, 150, 10)], 100))

    assert reads == [[SliceRange(held, 103, 151)]]


def test_no_jobs_need_no_read() -> None:
    assert list(preparation.plan_reads([], 100)) == []


@pytest.mark.parametrize("seed", range(20))
def test_every_job_is_read_once_and_no_read_is_too_large(seed: int) -> None:
    rng = random.Random(seed)
    sizes = job_sizes(*((lease(number), [rng.randint(1, 300) for _ in range(100)]) for number in range(3)))

    reads = list(preparation.plan_reads(sizes, 1_000))

    sizes_by_read = [
        [
            size
            for part in ranges
            for size in sizes
            if size.lease is part.lease and part.start_position <= size.position < part.end_position
        ]
        for ranges in reads
    ]
    assert [size for read in sizes_by_read for size in read] == sizes
    assert all(len(read) == 1 or sum(size.size_bytes for size in read) <= 1_000 for read in sizes_by_read)


@pytest.mark.parametrize("size", [1, 100, 10_000, 1_000_000])
def test_tokenizer_calls_are_bounded(size: int) -> None:
    jobs: list[tuple[Job, tuple[Job, ...]]] = [(Job(lease(1), place, {}, size), ()) for place in range(600)]

    calls = list(preparation.split_into_calls(jobs))

    assert [job for call in calls for job in call] == jobs
    assert all(len(call) == 1 or sum(job.size_bytes for job, _ in call) <= preparation.MAX_CALL_BYTES for call in calls)
    assert max(map(len, calls)) <= preparation.MAX_CALL_JOBS
