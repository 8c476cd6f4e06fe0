"""The switch policy decides which pipeline a process should load; it is pure, with times in seconds of one clock."""

from collections.abc import Collection, Sequence
from typing import NamedTuple


class LoadTarget(NamedTuple):
    """A pipeline to load, at the revision that a batch began with; None = the catalogue's revision."""

    pipeline: str
    revision: str | None = None

    def __str__(self) -> str:
        return self.pipeline if self.revision is None else f"{self.pipeline}@{self.revision}"


class SwitchPolicy:
    """Switches pipelines as rarely as possible, because each switch costs a load.

    A process switches when its pipeline has no work left and another has some, or when another has waited longer than
    `switch_after_seconds`. Among several, the one that has waited longest is chosen. The loaded pipeline works for as
    long at least: with many pipelines, each has waited longer by the time it is loaded, and none would do any work.
    """

    def __init__(self, pipelines: Sequence[str], switch_after_seconds: float) -> None:
        self._pipelines = list(pipelines)
        self._switch_after_seconds = switch_after_seconds
        self._waiting_since: dict[LoadTarget, float] = {}
        self._active: LoadTarget | None = None
        self._active_since = 0.0

    def choose(
        self, active: LoadTarget | None, claimable: Collection[LoadTarget], now: float, *, is_busy: bool
    ) -> LoadTarget | None:
        """Return the target to load instead of `active`; None = no switch.

        active: the loaded target, None = none is loaded.
        claimable: the targets with work that could be claimed now.
        now: seconds of the same clock at each call.
        is_busy: whether the process holds leases on slices, or a claim under way may get some.
        """
        self._update_waiting_since(active, claimable, now)
        if active != self._active:  # this is the first look since it was loaded
            self._active, self._active_since = active, now
        if not self._waiting_since:
            return None
        longest = min(self._waiting_since, key=self._waiting_order)
        dry = active is None or not (is_busy or active in claimable)
        if dry or now - max(self._waiting_since[longest], self._active_since) >= self._switch_after_seconds:
            return longest
        return None

    def move_to_back(self, target: LoadTarget) -> None:
        """Let a target whose load failed wait behind the others."""
        self._waiting_since.pop(target, None)

    def _update_waiting_since(self, active: LoadTarget | None, claimable: Collection[LoadTarget], now: float) -> None:
        self._waiting_since = {other: self._waiting_since.get(other, now) for other in claimable if other != active}

    def _waiting_order(self, target: LoadTarget) -> tuple[float, int, str]:
        return self._waiting_since[target], self._pipelines.index(target.pipeline), target.revision or ""
