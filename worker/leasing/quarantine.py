"""Suspicion: whether an input kills whoever runs it, or somebody was only killed while running it. Pure.

A process that dies of its own (an abort, a segmentation fault, a hung device) speaks against what it ran, and soon. One
that was killed from outside, or whose machine fell silent, hardly does: only many such ends of the same slice without a
single result between them. A suspect slice is split into single jobs that run alone; so the next death names its job.
"""

from enum import Enum

from models.lifecycle.claim_order import SUSPECT_DEATHS, SUSPECT_LAPSES

# Inputs that ended their workers, of a batch of which not one was answered: then it is hardly the inputs.
HOPELESS_JOBS = 8


class Verdict(Enum):
    """What becomes of a slice whose holder is gone."""

    QUEUE = "queue"
    SPLIT = "split"
    BURY = "bury"


def suspect_of(deaths: int, lapses: int) -> bool:
    """Whether it has to run alone from now on."""
    return deaths >= SUSPECT_DEATHS or lapses >= SUSPECT_LAPSES


def verdict(size: int, deaths: int, lapses: int, max_attempts: int) -> Verdict:
    """The verdict over a slice of so many jobs, after so many deaths over it and so many ends in silence."""
    if size == 1 and (deaths >= max_attempts or lapses >= SUSPECT_LAPSES + max_attempts):
        return Verdict.BURY
    return Verdict.SPLIT if size > 1 and suspect_of(deaths, lapses) else Verdict.QUEUE


def is_hopeless(buried: int, answered: int) -> bool:
    """Whether a batch ends of which so many jobs ended their workers, and so many were answered: a loop without end.

    Each of them may cost as long as a micro-batch may take, so a large batch would go on for months.
    """
    return answered == 0 and buried >= HOPELESS_JOBS
