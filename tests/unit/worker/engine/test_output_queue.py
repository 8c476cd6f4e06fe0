"""The output queue keeps the order, and is bounded in number and in bytes."""

import threading
from typing import Any

import numpy as np
import pytest

from worker.adapters.rows import Row
from worker.engine.output_queue import MAX_WAITING, OutputQueue
from worker.engine.portions import RawOutputs
from worker.leasing.leases import Job, Lease

LEASE = Lease(1, "batch", 0, 10, 1, 1)
SMALL_BYTES = 100_000


def raw(size: int = 0, output: Any = None) -> RawOutputs:
    return RawOutputs(1, [(Row(Job(LEASE, 0, {}, size), None, 1, truncated=False), output)])


def put_blocks(outputs: OutputQueue, output: RawOutputs, patience_seconds: float = 0.1) -> bool:
    """Whether `put` blocks; then it must return once there is room."""
    thread = threading.Thread(target=outputs.put, args=(output,))
    thread.start()
    thread.join(patience_seconds)
    blocked = thread.is_alive()
    if blocked:
        assert outputs.get_all()
        thread.join(60)
        assert outputs.get_all() == [output]
    return blocked


def test_all_outputs_are_taken_in_order() -> None:
    outputs, items = OutputQueue(SMALL_BYTES), [raw(), [LEASE], raw(), None]
    for item in items:
        outputs.put(item)

    assert outputs.get_all() == items


@pytest.mark.parametrize(
    "large",
    [raw(size=99_000), raw(output=np.zeros(30_000, np.float32)), raw(output=([[0.5] * 2_000], [[1] * 2_000]))],
    ids=["input", "array", "numbers"],
)
def test_large_outputs_wait_for_room(large: RawOutputs) -> None:
    outputs = OutputQueue(SMALL_BYTES)
    outputs.put(large)

    assert put_blocks(outputs, large)


def test_an_output_above_the_limit_passes_alone() -> None:
    outputs = OutputQueue(SMALL_BYTES)

    assert not put_blocks(outputs, raw(size=10 * SMALL_BYTES), patience_seconds=60)


def test_the_number_of_waiting_outputs_is_bounded() -> None:
    outputs = OutputQueue(SMALL_BYTES * 1_000)
    for _ in range(MAX_WAITING):
        outputs.put(raw())

    assert put_blocks(outputs, raw())
