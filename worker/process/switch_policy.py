"""Rotation: which of its pipelines a process should have pinned. Pure; moments are seconds of any one clock."""

from collections.abc import Collection, Sequence
from typing import NamedTuple


class LoadTarget(NamedTuple):
    """A pipeline to load: at the revision that a batch has begun with, or at the catalogue's (None)."""

    pipeline: str
    revision: str | None = None


class SwitchPolicy:
    """Changing costs a load, so a process changes only when it must.

    That is when the pinned pipeline's backlog is dry and another has one, or when another's has waited longer than
    `max_wait_seconds`; of several the one that has waited longest.
    """

    def __init__(self, pipelines: Sequence[str], switch_after_seconds: float) -> None:
        self._pipelines = list(pipelines)
        self._switch_after_seconds = switch_after_seconds
        self._waiting_since: dict[LoadTarget, float] = {}

    def choose(
        self, active: LoadTarget | None, claimable: Collection[LoadTarget], now: float, *, is_busy: bool
    ) -> LoadTarget | None:
        """What to load instead of `pinned`; None to stay.

        `waiting` are the targets with work that could be claimed now; `busy` says that some of the pinned one's is
        still in hand.
        """
        self._update_waiting_since(active, claimable, now)
        if not self._waiting_since:
            return None
        longest = min(self._waiting_since, key=self._waiting_order)
        dry = active is None or not (is_busy or active in claimable)
        if dry or now - self._waiting_since[longest] >= self._switch_after_seconds:
            return longest
        return None

    def move_to_back(self, target: LoadTarget) -> None:
        """Have a target that could not be loaded wait behind the others."""
        self._waiting_since.pop(target, None)

    def _update_waiting_since(self, active: LoadTarget | None, claimable: Collection[LoadTarget], now: float) -> None:
        self._waiting_since = {other: self._waiting_since.get(other, now) for other in claimable if other != active}

    def _waiting_order(self, target: LoadTarget) -> tuple[float, int, str]:
        return self._waiting_since[target], self._pipelines.index(target.pipeline), target.revision or ""
