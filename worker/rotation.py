"""Rotation: which of its pipelines a process should have pinned. Pure; moments are seconds of any one clock."""

from collections.abc import Collection, Sequence


class Rotation:
    """Changing costs a load, so a process changes only when it must.

    That is when the pinned pipeline's backlog is dry and another has one, or when another's has waited longer than
    `max_wait_seconds`; of several the one that has waited longest.
    """

    def __init__(self, pipelines: Sequence[str], max_wait_seconds: float) -> None:
        self._pipelines = list(pipelines)
        self._max_wait_seconds = max_wait_seconds
        self._waiting_since: dict[str, float] = {}

    def next(self, pinned: str | None, waiting: Collection[str], now: float, *, busy: bool) -> str | None:
        """The pipeline to pin instead of `pinned`; None to stay.

        `waiting` are the pipelines with work that could be claimed now; `busy` says that some of the pinned one's is
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

    def _note(self, pinned: str | None, waiting: Collection[str], now: float) -> None:
        others = [name for name in self._pipelines if name in waiting and name != pinned]
        self._waiting_since = {name: self._waiting_since.get(name, now) for name in others}

    def _since(self, name: str) -> tuple[float, int]:
        return self._waiting_since[name], self._pipelines.index(name)
