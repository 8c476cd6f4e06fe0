"""Usage per day or month as stacked bars. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from producer.tenants.usage_summary import Measure, Period, Totals

MAX_GROUPS = 5
OTHERS = "others"
WIDTH, HEIGHT = 960, 160
GAP = 0.2  # of the width of a bar


@dataclass(frozen=True, slots=True)
class Segment:
    """A group's part of a bar; `number` is that of its colour."""

    y: float
    height: float
    number: int


@dataclass(frozen=True, slots=True)
class StackedBar:
    """The bar of a period.

    label: the day or the month
    amount: of all groups
    """

    x: float
    width: float
    label: str
    amount: float
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars, and the names of their groups in the order of their colours."""

    bars: tuple[StackedBar, ...]
    names: tuple[str, ...]
    highest: float


def draw(periods: Sequence[Period], groups: Sequence[tuple[str, Totals]], measure: Measure) -> Chart:
    """Return the chart of some periods.

    groups: the largest first; those after the fifth are one
    """
    names = [name for name, _ in groups[:MAX_GROUPS]]
    shown = [*names, OTHERS] if len(groups) > MAX_GROUPS else names
    amounts = [_amounts(period, names, measure)[: len(shown)] for period in periods]
    highest = max(map(sum, amounts), default=0.0)
    step = WIDTH / max(len(periods), 1)
    bars = (
        StackedBar(
            round(number * step + step * GAP / 2, 2),
            round(step * (1 - GAP), 2),
            period.label,
            sum(parts),
            _stack(parts, highest),
        )
        for number, (period, parts) in enumerate(zip(periods, amounts, strict=True))
    )
    return Chart(tuple(bars), tuple(shown), highest)


def _amounts(period: Period, names: Sequence[str], measure: Measure) -> list[float]:
    """Return the amounts of the named groups, and that of all others."""
    named = [period.totals[name].amount(measure) if name in period.totals else 0.0 for name in names]
    others = sum(totals.amount(measure) for name, totals in period.totals.items() if name not in names)
    return [*named, others]


def _stack(parts: Sequence[float], highest: float) -> tuple[Segment, ...]:
    segments, bottom = [], float(HEIGHT)
    for number, part in enumerate(parts, start=1):
        height = HEIGHT * part / highest if highest else 0.0
        bottom -= height
        if height:
            segments.append(Segment(round(bottom, 2), round(height, 2), number))
    return tuple(segments)
