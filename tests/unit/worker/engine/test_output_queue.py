"""Outputs: what waits for the writer is bounded in number and in bytes, and comes in order."""

import threading
from typing import Any

import numpy as np
import pytest

from worker.adapters.rows import Row
from worker.engine.device_loop import RawOutputs
from worker.engine.output_queue import MAX_WAITING, OutputQueue
from worker.leasing.leases import Job, Lease

LEASE = Lease(1, "batch", 0, 10, 1, 1)
SMALL_BYTES = 100_000


def raw(size: int = 0, output: Any = None) -> RawOutputs:
    return RawOutputs(1, [(Row(Job(LEASE, 0, {}, size), None, 1, truncated=False), output)])


def waits(outputs: OutputQueue, output: RawOutputs) -> bool:
    """Whether this has to wait, and comes through once there is room."""
    thread = threading.Thread(target=outputs.put, args=(output,))
    thread.start()
    thread.join(0.1)
    waited = thread.is_alive()
    if waited:
        assert outputs.get_all()
        thread.join(10)
        assert outputs.get_all() == [output]
    return waited


def test_all_that_waits_is_taken_in_order() -> None:
    outputs, given = OutputQueue(SMALL_BYTES), [raw(), [LEASE], raw(), None]
    for one in given:
        outputs.put(one)

    assert outputs.get_all() == given


@pytest.mark.parametrize(
    "large",
    [raw(size=99_000), raw(output=np.zeros(30_000, np.float32)), raw(output=([[0.5] * 2_000], [[1] * 2_000]))],
    ids=["input", "array", "numbers"],
)
def test_large_ones_wait_for_room(large: RawOutputs) -> None:
    outputs = OutputQueue(SMALL_BYTES)
    outputs.put(large)

    assert waits(outputs, large)


def test_one_that_is_too_large_comes_through_alone() -> None:
    outputs = OutputQueue(SMALL_BYTES)

    assert not waits(outputs, raw(size=10 * SMALL_BYTES))


def test_so_many_wait_and_no_more() -> None:
    outputs = OutputQueue(SMALL_BYTES * 1_000)
    for _ in range(MAX_WAITING):
        outputs.put(raw())

    assert waits(outputs, raw())
