"""Tables: what was measured, in the form in which benchmarks/README.md holds it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.contest import Standing


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure should come to, at least or `at_most`, and what it came to."""

    name: str
    wanted: float
    measured: float
    form: str = "{:.2f} ×"
    at_most: bool = False

    @property
    def row(self) -> tuple[str, str, str, str]:
        """As the table shows it."""
        met = self.measured <= self.wanted if self.at_most else self.measured >= self.wanted
        return self.name, self.form.format(self.wanted), self.form.format(self.measured), "yes" if met else "no"


def paces(title: str, unit: str, standings: Mapping[str, Standing], ours: str) -> None:
    """Each contestant's median pace with its slowest and fastest run, and how many times as fast ours is."""
    rows = []
    for name, standing in standings.items():
        low, high = standing.spread
        ratio = standings[ours].pace / standing.pace
        rows.append((name, _number(standing.pace), f"{_number(low)} – {_number(high)}", f"{ratio:.2f} ×"))
    table(title, ("", unit, "slowest – fastest run", "Batchmill is"), rows)


def targets(rows: Iterable[Target]) -> None:
    """Figures beside what they should be."""
    table("", ("figure", "target", "measured", "met"), [target.row for target in rows])


def table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a Markdown table, its columns aligned."""
    lines = [head, *rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(head))]
    ruled = [*lines[:1], ["-" * width for width in widths], *lines[1:]]
    if title:
        print(f"\n### {title}")
    print()
    for line in ruled:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |")
    print(flush=True)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}"
