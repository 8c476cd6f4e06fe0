"""Assembly: a job's rows come off the device in one micro-batch or in several; it is answered as a whole."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from worker.adapters.rows import Row
from worker.leasing.leases import Job, Lease


@dataclass(slots=True)
class PartialJob:
    """What has come back of one job and its twins: each row with what it came to, and what it cost in tokens."""

    jobs: tuple[Job, ...]
    missing_rows: int
    rows: list[tuple[Row, Any]] = field(default_factory=list)  # in the order of encoding once none is missing
    tokens: int = 0
    padded_tokens: int = 0
    device_seconds: float = 0.0  # of the device

    @property
    def truncated(self) -> bool:
        """Whether any of the input was cut off."""
        return any(row.truncated for row, _ in self.rows)

    @property
    def encoded_rows(self) -> list[Row]:
        """The rows."""
        return [row for row, _ in self.rows]

    @property
    def raw_outputs(self) -> list[Any]:
        """What each row came to: a raw output or an exception."""
        return [raw for _, raw in self.rows]

    def add(self, row: Row, raw_output: Any, width: int, device_seconds: float) -> None:
        """Take in one row, which went through the device in a pass of this width and had so much of its time."""
        self.rows.append((row, raw_output))
        self.missing_rows -= 1
        self.tokens += row.length
        self.padded_tokens += row.computed_tokens(width)
        self.device_seconds += device_seconds
        if not self.missing_rows and row.part_count > 1:
            self.rows.sort(key=lambda one: one[0].part_index)


class PartAssembler:
    """Of the write thread alone."""

    def __init__(self) -> None:
        self._partial_jobs: dict[tuple[Lease, int], PartialJob] = {}

    def add(self, rows: Iterable[tuple[Row, Any]], width: int, device_seconds_per_row: float) -> list[PartialJob]:
        """Take in what a micro-batch came to, which had `seconds` of the device for each row; returns complete jobs."""
        complete = []
        for row, raw in rows:
            parts = self._partial_job_for(row)
            parts.add(row, raw, width, device_seconds_per_row)
            if parts.missing_rows == 0:
                complete.append(parts)
        return complete

    def _partial_job_for(self, row: Row) -> PartialJob:
        if row.part_count == 1:  # nearly every job, and keeping account of it would cost more than assembling it
            return PartialJob(row.jobs, 1)
        key = (row.job.lease, row.job.position)
        parts = self._partial_jobs.setdefault(key, PartialJob(row.jobs, row.part_count))
        if parts.missing_rows == 1:
            del self._partial_jobs[key]
        return parts

    def discard_others(self, held_leases: Collection[Lease]) -> None:
        """Forget what belongs to other leases than these: it is somebody else's to answer now."""
        self._partial_jobs = {
            key: parts
            for key, parts in self._partial_jobs.items()
            if any(job.lease in held_leases for job in parts.jobs)
        }
