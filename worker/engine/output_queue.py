"""Outputs: what the device has computed waits here for the writer, bounded in number and in bytes."""

from collections import deque
from collections.abc import Sequence
from threading import Condition
from typing import Any

from worker.adapters.rows import Row
from worker.engine.device_loop import RawOutputs
from worker.leasing.leases import Lease

# The writer takes all that waits in one transaction; this bounds what may wait.
MAX_WAITING = 64
NUMBER_BYTES = 32  # of a number in a Python list, and its place there

Output = RawOutputs | Sequence[Lease] | None


class OutputQueue:
    """A queue from two threads to one. Whatever is larger than all that may wait comes through alone."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._waiting: deque[tuple[Output, int]] = deque()
        self._waiting_bytes = 0
        self._changed = Condition()

    def put(self, output: Output) -> None:
        """Add an output; waits while there is no room."""
        size = _size(output)
        with self._changed:
            self._changed.wait_for(lambda: self._has_room(size))
            self._waiting.append((output, size))
            self._waiting_bytes += size
            self._changed.notify_all()

    def get_all(self) -> list[Output]:
        """All that waits, in order, at least one."""
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
    """What it keeps in memory, in bytes, its jobs' inputs among it."""
    return sum(_row_size(row, raw) for row, raw in output.rows) if isinstance(output, RawOutputs) else 0


def _row_size(row: Row, raw: Any) -> int:
    return row.memory_bytes + (sum(job.size_bytes for job in row.jobs) if row.part_index == 0 else 0) + _raw_size(raw)


def _raw_size(raw: Any) -> int:
    size: int | None = getattr(raw, "nbytes", None)
    if size is not None:
        return size
    if not isinstance(raw, (list, tuple)):
        return 0
    return sum(map(_raw_size, raw)) if raw and isinstance(raw[0], (list, tuple)) else NUMBER_BYTES * len(raw)
