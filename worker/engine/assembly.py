"""Assembly: a job's rows come off the device in one micro-batch or in several; it is answered as a whole."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from worker.adapters.rows import Encoded
from worker.leasing.leases import Job, Lease


@dataclass(slots=True)
class Parts:
    """What has come back of one job and its twins: each row with what it came to, and what it cost in tokens."""

    jobs: tuple[Job, ...]
    missing: int
    rows: list[tuple[Encoded, Any]] = field(default_factory=list)  # in the order of encoding once none is missing
    tokens: int = 0
    padded_tokens: int = 0
    seconds: float = 0.0  # of the device

    @property
    def truncated(self) -> bool:
        """Whether any of the input was cut off."""
        return any(row.truncated for row, _ in self.rows)

    @property
    def encoded(self) -> list[Encoded]:
        """The rows."""
        return [row for row, _ in self.rows]

    @property
    def raw(self) -> list[Any]:
        """What each row came to: a raw output or an exception."""
        return [raw for _, raw in self.rows]

    def add(self, row: Encoded, raw: Any, width: int, seconds: float) -> None:
        """Take in one row, which went through the device in a pass of this width and had so much of its time."""
        self.rows.append((row, raw))
        self.missing -= 1
        self.tokens += row.length
        self.padded_tokens += row.computed(width)
        self.seconds += seconds
        if not self.missing and row.parts > 1:
            self.rows.sort(key=lambda one: one[0].part)


class Assembly:
    """Of the write thread alone."""

    def __init__(self) -> None:
        self._begun: dict[tuple[Lease, int], Parts] = {}

    def add(self, rows: Iterable[tuple[Encoded, Any]], width: int, seconds: float) -> list[Parts]:
        """Take in what a micro-batch came to, which had `seconds` of the device for each row; returns complete jobs."""
        complete = []
        for row, raw in rows:
            parts = self._parts(row)
            parts.add(row, raw, width, seconds)
            if parts.missing == 0:
                complete.append(parts)
        return complete

    def _parts(self, row: Encoded) -> Parts:
        if row.parts == 1:  # nearly every job, and keeping account of it would cost more than assembling it
            return Parts(row.jobs, 1)
        key = (row.job.lease, row.job.position)
        parts = self._begun.setdefault(key, Parts(row.jobs, row.parts))
        if parts.missing == 1:
            del self._begun[key]
        return parts

    def keep(self, held: Collection[Lease]) -> None:
        """Forget what belongs to other leases than these: it is somebody else's to answer now."""
        self._begun = {key: parts for key, parts in self._begun.items() if any(job.lease in held for job in parts.jobs)}
