"""Which failures may pass, and how long the next try waits."""

import errno
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.backoff import backoff_seconds
from models.errors import JobError, ModelError, Unreachable
from worker.failures import is_transient


@pytest.mark.parametrize(
    "error",
    [
        Unreachable("away"),
        ConnectionResetError("reset"),
        TimeoutError("late"),
        OSError(errno.EBUSY, "busy"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_may_pass(error: Exception) -> None:
    assert is_transient(error)


@pytest.mark.parametrize(
    "error",
    [
        JobError("code", "words"),
        ModelError("no weights"),
        ValueError("shape"),
        FileNotFoundError(errno.ENOENT, "none"),
        RuntimeError("CUDA error: device-side assert triggered"),
    ],
)
def test_will_not_pass(error: Exception) -> None:
    assert not is_transient(error)


@given(st.integers(1, 100), st.floats(0.001, 100), st.floats(0.001, 1000), st.integers(0, 2**32))
def test_backoff_doubles_up_to_its_bound(tries: int, base: float, longest: float, seed: int) -> None:
    waits = backoff_seconds(tries, base, longest, Random(seed))
    assert 0 <= waits <= min(longest, base * 2 ** (tries - 1))


def test_backoff_is_spread_over_all_of_its_room() -> None:
    rng = Random(1)
    waits = [backoff_seconds(4, 1.0, 300.0, rng) for _ in range(2_000)]
    assert min(waits) < 0.1
    assert max(waits) > 7.9
    assert 3.7 < sum(waits) / len(waits) < 4.3
