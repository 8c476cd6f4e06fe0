"""The pace of a batch over time, and how long the rest takes, from marks. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from producer.batches.eta import Eta, EtaEstimator
from producer.results.summaries.marks import Mark, Marks

MAX_INTERVALS = 40
MIN_SECONDS = 10.0  # a shorter course is noise: results land slice by slice


@dataclass(frozen=True, slots=True)
class PaceCurve:
    """Jobs per second in intervals of equal length, by the time at which each ends."""

    times: tuple[datetime, ...] = ()
    jobs_per_second: tuple[float, ...] = ()
    seconds: float = 0.0  # from the first claim to the end of the last interval

    @property
    def is_drawable(self) -> bool:
        """Whether there are enough intervals to show a course."""
        return len(self.times) >= 3 and self.seconds >= MIN_SECONDS


def pace_curve(marks: Marks, until: datetime | None = None) -> PaceCurve:
    """Return the pace of the jobs that workers computed.

    until: the end of the last interval; None = the last result

    Results land in bursts, often several slices at once. Between two marks the pace is taken as even, and intervals of
    equal length are longer than most bursts.
    """
    points = _worked_points(marks)
    if len(points) < 2:
        return PaceCurve()
    began, ended = points[0][0], points[-1][0]
    if until is not None and until > ended:
        ended = until
        points.append((until, points[-1][1]))
    span = (ended - began).total_seconds()
    intervals = max(1, min(MAX_INTERVALS, len(points) - 1, int(span)))
    step = (ended - began) / intervals
    edges = [began + step * number for number in range(intervals)] + [ended]
    counts = _interpolate(points, edges)
    seconds = step.total_seconds()
    rates = tuple((later - earlier) / seconds for earlier, later in pairwise(counts))
    return PaceCurve(tuple(edges[1:]), rates, span)


def estimate_rest(marks: Marks, unanswered_jobs: int) -> Eta | None:
    """Estimate how long the unanswered jobs take, by the pace of the last two minutes; None if that is too little."""
    estimator = EtaEstimator()
    for mark in marks.recent:
        estimator.record(mark.finished_at.timestamp(), mark.seq)
    return estimator.estimate(unanswered_jobs)


def _worked_points(marks: Marks) -> list[tuple[datetime, float]]:
    """Return how many jobs workers had computed at which time; the times rise."""
    points: list[tuple[datetime, float]] = []
    worked = 0.0
    previous_seq = marks.all[0].seq - 1 if marks.all else 0
    for mark in marks.all:
        worked += mark.seq - previous_seq if mark.is_worked else 0
        previous_seq = mark.seq
        if mark.is_worked:
            _add_point(points, mark, worked, marks.began_at)
    if len(points) > 2 and points[0][1] == 0:
        del points[1]  # the first result alone; those that landed with it are counted at the next mark
    return points


def _add_point(points: list[tuple[datetime, float]], mark: Mark, worked: float, began_at: datetime | None) -> None:
    if not points and began_at is not None and began_at < mark.finished_at:
        points.append((began_at, 0.0))
    if points and mark.finished_at <= points[-1][0]:  # landed together, or the clock was set back
        points[-1] = (points[-1][0], worked)
    else:
        points.append((mark.finished_at, worked))


def _interpolate(points: Sequence[tuple[datetime, float]], edges: Sequence[datetime]) -> list[float]:
    counts, place = [], 0
    for edge in edges:
        while place < len(points) - 2 and points[place + 1][0] < edge:
            place += 1
        (start, low), (end, high) = points[place], points[place + 1]
        share = (edge - start) / (end - start)
        counts.append(low + (high - low) * min(1.0, max(0.0, share)))
    return counts
