"""Quarantine: when a slice that must run alone gets its turn. Pure; moments are seconds of any one clock.

It runs in a process that holds nothing else, so its turn has a price: the process claims nothing more, finishes what it
has in hand, and runs it. It is due by priority and deadline, as ordinary work is, and when there is no ordinary work.
One that has waited long is due whatever its priority; then the quarantine gets a share of the process' time.
"""

from dataclasses import dataclass, replace
from enum import Enum

MIN_WAIT_SECONDS = 10.0  # so long it waits for ordinary work that does not go before it by priority or deadline
TURN_SECONDS = 2.0  # slices that have waited run one after another for so long
COOLDOWN_SECONDS = 8.0  # then ordinary work has so long


class Turn(Enum):
    """What a process claims next."""

    ORDINARY = "ordinary work"
    DRAIN = "nothing, until its hand is empty"
    QUARANTINED = "one quarantined slice"


@dataclass(frozen=True, slots=True)
class QuarantinedSlice:
    """The first of the quarantined slices: whether it goes before all ordinary work, and for how long it has waited."""

    goes_first: bool
    waiting_seconds: float


@dataclass(frozen=True, slots=True)
class QuarantineShare:
    """What the quarantine has had of a process' time: `draining` says that a slice is due once the hand is empty."""

    turn_ends_at: float = 0.0
    cooldown_ends_at: float = 0.0
    is_draining: bool = False


def decide_turn(
    share: QuarantineShare, quarantined: QuarantinedSlice | None, now: float, *, has_leases: bool
) -> tuple[Turn, QuarantineShare]:
    """Whose turn it is, and the share from then on. `holds` says that the process has something in hand."""
    if quarantined is None:
        return Turn.ORDINARY, replace(share, is_draining=False)
    if quarantined.goes_first:
        return (Turn.DRAIN if has_leases else Turn.QUARANTINED), share
    has_turn = share.is_draining or now < share.turn_ends_at or now >= share.cooldown_ends_at
    if quarantined.waiting_seconds < MIN_WAIT_SECONDS or not has_turn:
        return Turn.ORDINARY, share
    if has_leases:
        return Turn.DRAIN, replace(share, is_draining=True)
    if now < share.turn_ends_at:
        return Turn.QUARANTINED, replace(share, is_draining=False)
    ends = now + TURN_SECONDS
    return Turn.QUARANTINED, QuarantineShare(ends, ends + COOLDOWN_SECONDS)
