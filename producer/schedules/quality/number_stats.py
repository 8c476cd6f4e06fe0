"""Mean and spread of numbers, in one pass."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class NumberStats:
    """Count, mean, sample standard deviation, minimum and maximum of some numbers."""

    count: int
    mean: float
    deviation: float
    min: float
    max: float


@dataclass(slots=True)
class RunningStats:
    """Mean and deviation in one pass, by Welford's recurrence (Knuth, The Art of Computer Programming 2, 4.2.2)."""

    count: int = 0
    mean: float = 0.0
    squared_deviations: float = 0.0
    minimum: float = float("inf")
    maximum: float = float("-inf")

    def add(self, value: float) -> None:
        """Add one number."""
        self.count += 1
        difference = value - self.mean
        self.mean += difference / self.count
        self.squared_deviations += difference * (value - self.mean)
        if value < self.minimum:
            self.minimum = value
        if value > self.maximum:
            self.maximum = value

    def as_dict(self) -> dict[str, Any]:
        """Return the fields of `NumberStats`."""
        deviation = (max(self.squared_deviations, 0.0) / (self.count - 1)) ** 0.5 if self.count > 1 else 0.0
        return {
            "count": self.count,
            "mean": self.mean,
            "deviation": deviation,
            "min": self.minimum,
            "max": self.maximum,
        }
