"""Assembly: a job's rows come off the device in one micro-batch or in several; it is answered as a whole."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from worker.batching import Encoded
from worker.claims import Job, Lease


@dataclass(slots=True)
class Parts:
    """What has come back of one job and its twins: the rows, what each came to, and what it cost in tokens."""

    jobs: tuple[Job, ...]
    missing: int
    rows: dict[int, tuple[Encoded, Any]] = field(default_factory=dict)
    tokens: int = 0
    padded_tokens: int = 0
    seconds: float = 0.0  # of the device

    @property
    def truncated(self) -> bool:
        """Whether any of the input was cut off."""
        return any(row.truncated for row, _ in self.rows.values())

    @property
    def encoded(self) -> list[Encoded]:
        """The rows, in the order in which they were encoded."""
        return [self.rows[part][0] for part in sorted(self.rows)]

    @property
    def raw(self) -> list[Any]:
        """What each row came to: a raw output or an exception."""
        return [self.rows[part][1] for part in sorted(self.rows)]

    def add(self, row: Encoded, raw: Any, width: int, seconds: float) -> None:
        """Take in one row, which went through the device in a pass of this width and had so much of its time."""
        self.rows[row.part] = (row, raw)
        self.missing -= 1
        self.tokens += row.length
        self.padded_tokens += row.computed(width)
        self.seconds += seconds


class Assembly:
    """Of the write thread alone."""

    def __init__(self) -> None:
        self._begun: dict[tuple[Lease, int], Parts] = {}

    def add(self, rows: Iterable[tuple[Encoded, Any]], width: int, seconds: float) -> list[Parts]:
        """Take in what a micro-batch came to, which had `seconds` of the device for each row; returns complete jobs."""
        complete = []
        for row, raw in rows:
            key = (row.job.lease, row.job.position)
            parts = self._begun.pop(key, None) or Parts(row.jobs, row.parts)
            parts.add(row, raw, width, seconds)
            if parts.missing == 0:
                complete.append(parts)
            else:
                self._begun[key] = parts
        return complete

    def keep(self, held: Collection[Lease]) -> None:
        """Forget what belongs to other leases than these: it is somebody else's to answer now."""
        self._begun = {key: parts for key, parts in self._begun.items() if any(job.lease in held for job in parts.jobs)}
