"""The lines of the chart of throughput. Pure."""

from dataclasses import dataclass

from producer.activity.throughput import Throughput

MAX_LINES = 5  # and one for all other pipelines


@dataclass(frozen=True, slots=True)
class Line:
    """The jobs per minute of a pipeline, or of several."""

    name: str
    values: tuple[int, ...]


def chart_lines(throughput: Throughput) -> list[Line]:
    """Return the lines of the pipelines with the most jobs, and one of all others.

    The current minute is left out while it would look like a drop: work that goes on has not filled it yet. It counts
    if nothing was done in the minute before, so that the first jobs are seen at once.
    """
    pipelines = throughput.pipelines
    if not pipelines:
        return []
    is_going_on = throughput.span.minutes > 1 and any(pipeline.per_minute[-2] for pipeline in pipelines)
    end = throughput.span.minutes - is_going_on
    lines = [Line(pipeline.pipeline[:80], pipeline.per_minute[:end]) for pipeline in pipelines[:MAX_LINES]]
    if others := pipelines[MAX_LINES:]:
        sums = tuple(map(sum, zip(*(pipeline.per_minute[:end] for pipeline in others), strict=True)))
        lines.append(Line(f"{len(others)} others", sums))
    return lines
