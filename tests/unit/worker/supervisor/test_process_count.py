"""The number of processes on one GPU."""

import pytest

from worker.supervisor.process_count import LoadEstimate, choose_process_count

GIGABYTE = 1 << 30
SMALL = LoadEstimate("small", False, GIGABYTE // 4)


@pytest.mark.parametrize(("cores", "processes"), [(1, 1), (5, 1), (6, 2), (8, 2), (9, 3), (12, 4), (16, 4), (128, 4)])
def test_cores_limit_it(cores: int, processes: int) -> None:
    assert choose_process_count(cores, 80 * GIGABYTE, [SMALL]).processes == processes


@pytest.mark.parametrize(("gigabytes", "processes"), [(3, 4), (4, 4), (5, 3), (8, 2), (9, 1), (100, 1)])
def test_the_largest_weights_take_at_most_a_fifth_of_the_memory(gigabytes: int, processes: int) -> None:
    largest = LoadEstimate("large", False, gigabytes * GIGABYTE)

    assert choose_process_count(64, 80 * GIGABYTE, [SMALL, largest]).processes == processes


@pytest.mark.parametrize(
    ("cores", "memory", "estimates", "reason"),
    [
        (4, 80 * GIGABYTE, [SMALL], "4 cores for each GPU"),
        (64, 80 * GIGABYTE, [SMALL, LoadEstimate("story", True, 1)], "story generates text"),
        (64, None, [SMALL], "the memory of the GPU is not known"),
        (64, 80 * GIGABYTE, [SMALL, LoadEstimate("far", False, None)], "fetch it: batchmill models pull far"),
    ],
)
def test_one_process_has_a_reason(cores: int, memory: int | None, estimates: list[LoadEstimate], reason: str) -> None:
    choice = choose_process_count(cores, memory, estimates)

    assert choice.processes == 1
    assert reason in choice.reason
