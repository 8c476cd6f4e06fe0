"""Quarantine: when a slice that must run alone gets its turn. Pure; moments are seconds of any one clock.

It runs in a process that holds nothing else, so its turn has a price: the process claims nothing more, finishes what it
has in hand, and runs it. It is due by priority and deadline, as ordinary work is, and when there is no ordinary work.
One that has waited long is due whatever its priority; then the quarantine gets a share of the process' time.
"""

from dataclasses import dataclass, replace
from enum import Enum

WAIT_SECONDS = 10.0  # so long it waits for ordinary work that does not go before it by priority or deadline
TURN_SECONDS = 2.0  # slices that have waited run one after another for so long
REST_SECONDS = 8.0  # then ordinary work has so long


class Turn(Enum):
    """What a process claims next."""

    ORDINARY = "ordinary work"
    NOTHING = "nothing, until its hand is empty"
    QUARANTINED = "one quarantined slice"


@dataclass(frozen=True, slots=True)
class Waiting:
    """The first of the quarantined slices: whether it goes before all ordinary work, and for how long it has waited."""

    is_next: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class Share:
    """What the quarantine has had of a process' time: `draining` says that a slice is due once the hand is empty."""

    turn_ends: float = 0.0
    rest_ends: float = 0.0
    draining: bool = False


def next_turn(share: Share, waiting: Waiting | None, now: float, *, holds: bool) -> tuple[Turn, Share]:
    """Whose turn it is, and the share from then on. `holds` says that the process has something in hand."""
    if waiting is None:
        return Turn.ORDINARY, replace(share, draining=False)
    if waiting.is_next:
        return (Turn.NOTHING if holds else Turn.QUARANTINED), share
    has_turn = share.draining or now < share.turn_ends or now >= share.rest_ends
    if waiting.seconds < WAIT_SECONDS or not has_turn:
        return Turn.ORDINARY, share
    if holds:
        return Turn.NOTHING, replace(share, draining=True)
    if now < share.turn_ends:
        return Turn.QUARANTINED, replace(share, draining=False)
    ends = now + TURN_SECONDS
    return Turn.QUARANTINED, Share(ends, ends + REST_SECONDS)
