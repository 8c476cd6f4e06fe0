"""Portions: what is read at a time is bounded, whole, and in order."""

import random

import pytest

from worker.engine import preparation
from worker.leasing.leases import Job, JobSize, Lease, SliceRange


def lease(number: int, jobs: int = 100) -> Lease:
    return Lease(number, "batch", number * jobs, jobs, 1, 1)


def sizes(*of_leases: tuple[Lease, list[int]]) -> list[JobSize]:
    return [
        JobSize(each, each.start_position + place, size)
        for each, given in of_leases
        for place, size in enumerate(given)
    ]


def test_small_inputs_are_read_at_once_slice_by_slice() -> None:
    one, two = lease(1), lease(2)

    found = list(preparation.plan_reads(sizes((one, [10] * 100), (two, [10] * 100)), 2_000))

    assert found == [[SliceRange(one, 100, 200), SliceRange(two, 200, 300)]]


def test_what_is_too_large_is_read_alone() -> None:
    one = lease(1)

    found = list(preparation.plan_reads(sizes((one, [10, 5_000, 10, 10])), 100))

    assert found == [[SliceRange(one, 100, 101)], [SliceRange(one, 101, 102)], [SliceRange(one, 102, 104)]]


def test_answered_jobs_between_open_ones_are_passed_over() -> None:
    one = lease(1)

    found = list(preparation.plan_reads([JobSize(one, 103, 10), JobSize(one, 150, 10)], 100))

    assert found == [[SliceRange(one, 103, 151)]]


def test_nothing_is_read_of_nothing() -> None:
    assert list(preparation.plan_reads([], 100)) == []


@pytest.mark.parametrize("seed", range(20))
def test_every_job_is_read_once_and_no_portion_is_too_large(seed: int) -> None:
    source = random.Random(seed)
    given = sizes(*((lease(number), [source.randint(1, 300) for _ in range(100)]) for number in range(3)))

    found = list(preparation.plan_reads(given, 1_000))

    read = [
        [
            size
            for each in some
            for size in given
            if size.lease is each.lease and each.start_position <= size.position < each.end_position
        ]
        for some in found
    ]
    assert [size for some in read for size in some] == given
    assert all(len(some) == 1 or sum(size.size_bytes for size in some) <= 1_000 for some in read)


@pytest.mark.parametrize("size", [1, 100, 10_000, 1_000_000])
def test_calls_of_a_tokenizer_are_bounded(size: int) -> None:
    jobs: list[tuple[Job, tuple[Job, ...]]] = [(Job(lease(1), place, {}, size), ()) for place in range(600)]

    found = list(preparation.split_into_calls(jobs))

    assert [job for some in found for job in some] == jobs
    assert all(len(some) == 1 or sum(job.size_bytes for job, _ in some) <= preparation.MAX_CALL_BYTES for some in found)
    assert max(map(len, found)) <= preparation.MAX_CALL_JOBS
