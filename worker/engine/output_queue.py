"""The output queue holds computed outputs until they are written, bounded in number and in bytes."""

from collections import deque
from collections.abc import Sequence
from threading import Condition
from typing import Any

from worker.adapters.rows import Row
from worker.engine.portions import RawOutputs
from worker.leasing.leases import Lease

MAX_WAITING = 64  # the writer takes all waiting outputs at once, so this also bounds one write
NUMBER_BYTES = 32  # of a number in a Python list, including its pointer

Output = RawOutputs | Sequence[Lease] | None


class OutputQueue:
    """A queue from two threads to one; an output larger than `max_bytes` passes alone."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._waiting: deque[tuple[Output, int]] = deque()
        self._waiting_bytes = 0
        self._changed = Condition()

    def put(self, output: Output) -> None:
        """Add an output; blocks while the queue is full."""
        size = _size(output)
        with self._changed:
            self._changed.wait_for(lambda: self._has_room(size))
            self._waiting.append((output, size))
            self._waiting_bytes += size
            self._changed.notify_all()

    def get_all(self) -> list[Output]:
        """Remove and return all outputs, in order; blocks while there are none."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._waiting))
            outputs = [output for output, _ in self._waiting]
            self._waiting.clear()
            self._waiting_bytes = 0
            self._changed.notify_all()
            return outputs

    def _has_room(self, size: int) -> bool:
        if not self._waiting:
            return True
        return len(self._waiting) < MAX_WAITING and self._waiting_bytes + size <= self._max_bytes


def _size(output: Output) -> int:
    """The memory that it holds, in bytes, including its jobs' inputs."""
    return sum([_row_size(row, raw) for row, raw in output.rows]) if isinstance(output, RawOutputs) else 0


def _row_size(row: Row, raw_output: Any) -> int:
    size = row.memory_bytes + _raw_size(raw_output)
    if row.part_index > 0:
        return size
    size += row.job.memory_bytes
    return size + sum([job.size_bytes for job in row.duplicates]) if row.duplicates else size


def _raw_size(value: Any) -> int:
    size: int | None = getattr(value, "nbytes", None)
    if size is not None:
        return size
    if not isinstance(value, (list, tuple)):
        return 0
    return sum(map(_raw_size, value)) if value and isinstance(value[0], (list, tuple)) else NUMBER_BYTES * len(value)
