"""The pace of a device, from what it computed and how long it did."""

from typing import Protocol


class Computed(Protocol):
    """What was computed in how much device time."""

    @property
    def jobs(self) -> int:
        """Jobs that ended."""

    @property
    def tokens(self) -> int:
        """Tokens without padding."""

    @property
    def device_seconds(self) -> float:
        """The time of all devices together."""


class DevicePace:
    """The two rates of whatever has jobs, tokens and device seconds."""

    __slots__ = ()

    @property
    def jobs_per_device_second(self: Computed) -> float | None:
        """The pace of one device that computes all the time; None without device time."""
        return self.jobs / self.device_seconds if self.device_seconds else None

    @property
    def tokens_per_device_second(self: Computed) -> float | None:
        """Tokens without padding."""
        return self.tokens / self.device_seconds if self.device_seconds else None
