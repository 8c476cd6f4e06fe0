"""Rotation: which of its pipelines a process should have pinned. Pure; moments are seconds of any one clock."""

from collections.abc import Collection, Sequence
from typing import NamedTuple


class Target(NamedTuple):
    """A pipeline to load: at the revision that a batch has begun with, or at the catalogue's (None)."""

    pipeline: str
    revision: str | None = None


class Rotation:
    """Changing costs a load, so a process changes only when it must.

    That is when the pinned pipeline's backlog is dry and another has one, or when another's has waited longer than
    `max_wait_seconds`; of several the one that has waited longest.
    """

    def __init__(self, pipelines: Sequence[str], max_wait_seconds: float) -> None:
        self._pipelines = list(pipelines)
        self._max_wait_seconds = max_wait_seconds
        self._waiting_since: dict[Target, float] = {}

    def next(self, pinned: Target | None, waiting: Collection[Target], now: float, *, busy: bool) -> Target | None:
        """What to load instead of `pinned`; None to stay.

        `waiting` are the targets with work that could be claimed now; `busy` says that some of the pinned one's is
        still in hand.
        """
        self._note(pinned, waiting, now)
        if not self._waiting_since:
            return None
        longest = min(self._waiting_since, key=self._since)
        dry = pinned is None or not (busy or pinned in waiting)
        if dry or now - self._waiting_since[longest] >= self._max_wait_seconds:
            return longest
        return None

    def failed(self, target: Target) -> None:
        """Have a target that could not be loaded wait behind the others."""
        self._waiting_since.pop(target, None)

    def _note(self, pinned: Target | None, waiting: Collection[Target], now: float) -> None:
        self._waiting_since = {other: self._waiting_since.get(other, now) for other in waiting if other != pinned}

    def _since(self, target: Target) -> tuple[float, int, str]:
        return self._waiting_since[target], self._pipelines.index(target.pipeline), target.revision or ""
