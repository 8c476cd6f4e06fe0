"""Suspicion: whether an input kills whoever runs it, or somebody was only killed while running it. Pure.

A process that dies of its own (an abort, a segmentation fault, a hung device) speaks against what it ran, and soon. One
that was killed from outside, or whose machine fell silent, hardly does: only many such ends of the same slice without a
single result between them. A suspect slice is split into single jobs that run alone; so the next death names its job.
"""

from enum import Enum

from models.lifecycle.claim_order import QUARANTINE_AFTER_CRASHES, QUARANTINE_AFTER_LOST_LEASES

# Inputs that ended their workers, of a batch of which not one was answered: then it is hardly the inputs.
CRASH_LOOP_JOBS = 8


class Recovery(Enum):
    """What becomes of a slice whose holder is gone."""

    REQUEUE = "queue"
    SPLIT = "split"
    DEAD_LETTER = "bury"


def must_run_alone(crashes: int, lost_leases: int) -> bool:
    """Whether it has to run alone from now on."""
    return crashes >= QUARANTINE_AFTER_CRASHES or lost_leases >= QUARANTINE_AFTER_LOST_LEASES


def decide_recovery(size: int, crashes: int, lost_leases: int, max_attempts: int) -> Recovery:
    """The verdict over a slice of so many jobs, after so many deaths over it and so many ends in silence."""
    if size == 1 and (crashes >= max_attempts or lost_leases >= QUARANTINE_AFTER_LOST_LEASES + max_attempts):
        return Recovery.DEAD_LETTER
    return Recovery.SPLIT if size > 1 and must_run_alone(crashes, lost_leases) else Recovery.REQUEUE


def is_crash_loop(dead_lettered_jobs: int, answered_jobs: int) -> bool:
    """Whether a batch ends of which so many jobs ended their workers, and so many were answered: a loop without end.

    Each of them may cost as long as a micro-batch may take, so a large batch would go on for months.
    """
    return answered_jobs == 0 and dead_lettered_jobs >= CRASH_LOOP_JOBS
