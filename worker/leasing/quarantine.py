"""Quarantine decides whether a slice's inputs crash workers, or workers were only stopped while running it. Pure.

A crash (an abort, a segmentation fault, a hung device) is strong evidence against the slice. A kill from outside, or an
expired lease, is weak: it counts only after many without a single result in between. A quarantined slice is split into
single jobs that run alone, so the next crash identifies its job.
"""

from enum import Enum

from models.lifecycle.claim_order import QUARANTINE_AFTER_CRASHES, QUARANTINE_AFTER_LOST_LEASES

# Dead-lettered jobs of a batch without any answer; beyond that the model is at fault rather than the inputs.
CRASH_LOOP_JOBS = 8


class Recovery(Enum):
    """The treatment of a slice that lost its holder."""

    REQUEUE = "requeue"
    SPLIT = "split"
    DEAD_LETTER = "dead_letter"


def must_run_alone(crashes: int, lost_leases: int) -> bool:
    """Whether a slice with these crashes and lost leases must run alone."""
    return crashes >= QUARANTINE_AFTER_CRASHES or lost_leases >= QUARANTINE_AFTER_LOST_LEASES


def decide_recovery(size: int, crashes: int, lost_leases: int, max_attempts: int) -> Recovery:
    """Decide what to do with a slice of `size` jobs after its crashes and lost leases."""
    if size == 1 and (crashes >= max_attempts or lost_leases >= QUARANTINE_AFTER_LOST_LEASES + max_attempts):
        return Recovery.DEAD_LETTER
    return Recovery.SPLIT if size > 1 and must_run_alone(crashes, lost_leases) else Recovery.REQUEUE


def is_crash_loop(dead_lettered_jobs: int, answered_jobs: int) -> bool:
    """Whether a batch only crashes workers and should end.

    Each job may take as long as a hung micro-batch, so a large batch would go on for months.
    """
    return answered_jobs == 0 and dead_lettered_jobs >= CRASH_LOOP_JOBS
