"""A dry run as the page shows it: counts, bars of lengths, the forecast and the trial of the guards. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from producer.dry_run.file_trial import FileTrial
from producer.server.pages.submit.row_problems import group_problems

MAX_MESSAGE_CHARACTERS = 500
OUTCOMES = {
    "truncated": "are cut to the limit, and marked as truncated",
    "failed": "fail, because they are too long",
    "windowed": "are read in overlapping windows",
}


@dataclass(frozen=True, slots=True)
class LengthBar:
    """One bar of the histogram.

    label: the lengths, such as `65 to 128`
    share: of the highest bar, from 0 to 1
    is_over: all its inputs are over the limit
    """

    label: str
    inputs: int
    share: float
    is_over: bool


@dataclass(frozen=True, slots=True)
class CheckView:
    """What the dry run shows.

    rows: of the file, None = not known; `checked` of them were read
    problems: of the first rows that can't be jobs, of which there are `described`
    too_long: a sentence on inputs over the limit; None = there are none, or no limit is known
    """

    rows: int | None
    checked: int
    is_whole: bool
    jobs: int
    invalid: int
    invalid_by_code: Sequence[tuple[str, int]]
    problems: Sequence[str]
    described: int
    slices: int
    unit: str
    max_length: int
    limit: int | None
    too_long: int
    too_long_outcome: str
    bars: Sequence[LengthBar]
    seconds: float | None
    jobs_per_second: float | None
    is_upper_bound: bool
    guards: Sequence[dict[str, Any]]
    doubts: Sequence[str]

    @property
    def more_problems(self) -> int:
        """How many rows can't be jobs besides those that are shown."""
        return self.invalid - self.described

    @classmethod
    def of(cls, trial: FileTrial) -> "CheckView":
        """The view of a trial."""
        report, lengths = trial.report, trial.report.lengths
        limit = lengths.limit.tokens if lengths.limit is not None else None
        forecast, invalid = trial.forecast, report.invalid.total()
        return cls(
            rows=trial.row_count,
            checked=report.rows,
            is_whole=trial.is_whole,
            jobs=report.jobs,
            invalid=invalid,
            invalid_by_code=report.invalid.most_common(),
            problems=[problem[:MAX_MESSAGE_CHARACTERS] for problem in group_problems(report.problems)],
            described=len(report.problems),
            slices=report.slices,
            unit=lengths.unit,
            max_length=lengths.max_length,
            limit=limit,
            too_long=lengths.too_long if limit is not None else 0,
            too_long_outcome=OUTCOMES.get(lengths.limit.outcome, "") if lengths.limit is not None else "",
            bars=length_bars(lengths.bins(), limit),
            seconds=None if forecast is None else forecast.seconds,
            jobs_per_second=None if forecast is None else forecast.jobs_per_second,
            is_upper_bound=forecast is not None and forecast.is_upper_bound,
            guards=report.guards.as_list(),
            doubts=report.doubts,
        )


def length_bars(bins: Sequence[tuple[int, int]], limit: int | None) -> list[LengthBar]:
    """The bars of a histogram in powers of two.

    bins: the greatest length and the number of inputs of each
    """
    highest = max((inputs for _, inputs in bins), default=0) or 1
    return [
        LengthBar(
            label=f"{up_to // 2 + 1:,} to {up_to:,}" if up_to > 2 else f"{up_to}",
            inputs=inputs,
            share=inputs / highest,
            is_over=limit is not None and up_to // 2 >= limit,
        )
        for up_to, inputs in bins
    ]
