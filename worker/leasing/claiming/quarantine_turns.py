"""Quarantine turns decide when a process runs a slice that must run alone. Pure; times are seconds of any one clock.

Such a slice runs in a process without other leases, so it has a price: the process stops claiming and first finishes
the work it holds. A quarantined slice is due by priority and deadline, or when there is no ordinary work. After a long
wait it is due in spite of its priority; then quarantined slices get a share of the process' time.
"""

from dataclasses import dataclass, replace
from enum import Enum

MIN_WAIT_SECONDS = 10.0  # that a slice waits for ordinary work, unless it goes first by priority or deadline
TURN_SECONDS = 2.0  # during which waiting slices run one after another
COOLDOWN_SECONDS = 8.0  # for ordinary work, after a turn


class Turn(Enum):
    """The kind of slices that a process claims next; DRAIN claims none until no lease is held."""

    ORDINARY = "ordinary"
    DRAIN = "drain"
    QUARANTINED = "quarantined"


@dataclass(frozen=True, slots=True)
class QuarantinedSlice:
    """The next quarantined slice: whether it precedes all ordinary work, and how long it has waited."""

    goes_first: bool
    waiting_seconds: float


@dataclass(frozen=True, slots=True)
class QuarantineShare:
    """Quarantined slices' share of a process' time.

    is_draining: a slice is due as soon as the process holds no lease.
    """

    turn_ends_at: float = 0.0
    cooldown_ends_at: float = 0.0
    is_draining: bool = False


def decide_turn(
    share: QuarantineShare, quarantined: QuarantinedSlice | None, now: float, *, has_leases: bool
) -> tuple[Turn, QuarantineShare]:
    """Decide the next turn; returns it with the new share.

    quarantined: the next quarantined slice; None = there is none.
    has_leases: whether the process holds any lease.
    """
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
    turn_ends_at = now + TURN_SECONDS
    return Turn.QUARANTINED, QuarantineShare(turn_ends_at, turn_ends_at + COOLDOWN_SECONDS)
