"""The pace of a batch over time, and how long the rest takes, from marks. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate, pairwise

from producer.batches.progress.eta import Eta, EtaEstimator
from producer.results.summaries.marks import Mark, Marks

MAX_INTERVALS = 40
MIN_SECONDS = 10.0  # a shorter course is noise: results land slice by slice

MIN_PAUSE_SECONDS = 300.0
MAX_PAUSES = 5
# How much longer than any time between other marks a pause is. Slices that land together every few minutes have none.
PAUSE_FACTOR = 10
MIN_WORK_SECONDS = 2.0  # without the pauses; less is the time in which slices are stored

Point = tuple[datetime, float]  # a time, and how many jobs workers had computed by then


@dataclass(frozen=True, slots=True)
class Pause:
    """A time without any result that is far longer than the work around it."""

    began: datetime
    ended: datetime

    @property
    def seconds(self) -> float:
        """How long it was."""
        return (self.ended - self.began).total_seconds()


@dataclass(frozen=True, slots=True)
class PaceCurve:
    """Jobs per second in intervals of equal length, by the time at which each ends.

    began: of the first interval
    pauses: which are left out, with the results beyond them; a retry weeks later would hide the pace of the work
    """

    times: tuple[datetime, ...] = ()
    jobs_per_second: tuple[float, ...] = ()
    began: datetime | None = None
    pauses: tuple[Pause, ...] = ()

    @property
    def is_drawable(self) -> bool:
        """Whether there are enough intervals to show a course."""
        if self.began is None or len(self.times) < 3:
            return False
        return (self.times[-1] - self.began).total_seconds() >= MIN_SECONDS


def pace_curve(marks: Marks, until: datetime | None = None) -> PaceCurve:
    """Return the pace of the jobs that workers computed.

    until: the end of the last interval; None = the last result

    Results land in bursts, often several slices at once. Between two marks the pace is taken as even, and intervals of
    equal length are longer than most bursts.

    Of work with long pauses, the stretch with the most jobs is drawn.
    """
    points = _worked_points(marks)
    if len(points) < 2:
        return PaceCurve()
    if until is not None and until > points[-1][0]:
        points.append((until, points[-1][1]))
    pauses = _find_pauses(points)
    points = _longest_stretch(points, pauses)
    began, ended = points[0][0], points[-1][0]
    intervals = max(1, min(MAX_INTERVALS, len(points) - 1, int((ended - began).total_seconds())))
    step = (ended - began) / intervals
    edges = [began + step * number for number in range(intervals)] + [ended]
    counts = _interpolate(points, edges)
    seconds = step.total_seconds()
    rates = tuple((later - earlier) / seconds for earlier, later in pairwise(counts))
    return PaceCurve(tuple(edges[1:]), rates, began, pauses)


def estimate_rest(marks: Marks, unanswered_jobs: int) -> Eta | None:
    """Estimate how long the unanswered jobs take, by the pace of the last two minutes; None if that is too little."""
    estimator = EtaEstimator()
    for mark in marks.recent:
        estimator.record(mark.finished_at.timestamp(), mark.seq)
    return estimator.estimate(unanswered_jobs)


def _find_pauses(points: Sequence[Point]) -> tuple[Pause, ...]:
    """Return the few times between points that are far longer than all others, in their order."""
    gaps = sorted((Pause(start, end) for (start, _), (end, _) in pairwise(points)), key=lambda gap: -gap.seconds)
    rest = sum(gap.seconds for gap in gaps)
    found = 0
    for number, passed in enumerate(accumulate(gap.seconds for gap in gaps[:MAX_PAUSES]), start=1):
        following = gaps[number].seconds if number < len(gaps) else 0.0
        is_long = gaps[number - 1].seconds > max(MIN_PAUSE_SECONDS, PAUSE_FACTOR * following)
        if is_long and rest - passed >= MIN_WORK_SECONDS:
            found = number
    return tuple(sorted(gaps[:found], key=lambda gap: gap.began))


def _longest_stretch(points: Sequence[Point], pauses: Sequence[Pause]) -> list[Point]:
    """Return the points between two pauses with the most jobs, at least two."""
    ends = [points[0][0], *(moment for pause in pauses for moment in (pause.began, pause.ended)), points[-1][0]]
    stretches = [
        [point for point in points if start <= point[0] <= end]
        for start, end in zip(ends[::2], ends[1::2], strict=True)
    ]
    return max(
        (stretch for stretch in stretches if len(stretch) > 1), key=lambda stretch: stretch[-1][1] - stretch[0][1]
    )


def _worked_points(marks: Marks) -> list[Point]:
    """Return how many jobs workers had computed at which time; the times rise."""
    points: list[Point] = []
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


def _add_point(points: list[Point], mark: Mark, worked: float, began_at: datetime | None) -> None:
    if not points and began_at is not None and began_at < mark.finished_at:
        points.append((began_at, 0.0))
    if points and mark.finished_at <= points[-1][0]:  # landed together, or the clock was set back
        points[-1] = (points[-1][0], worked)
    else:
        points.append((mark.finished_at, worked))


def _interpolate(points: Sequence[Point], edges: Sequence[datetime]) -> list[float]:
    counts, place = [], 0
    for edge in edges:
        while place < len(points) - 2 and points[place + 1][0] < edge:
            place += 1
        (start, low), (end, high) = points[place], points[place + 1]
        share = (edge - start) / (end - start)
        counts.append(low + (high - low) * min(1.0, max(0.0, share)))
    return counts
