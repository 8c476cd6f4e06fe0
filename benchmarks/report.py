"""Tables of measurements, in the form of benchmarks/README.md."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks import results_file
from benchmarks.comparison import Measurement


@dataclass(frozen=True, slots=True)
class Target:
    """A measured figure and its target, a minimum or, with `is_upper_bound`, a maximum."""

    name: str
    target: float
    measured: float
    number_format: str = "{:.2f} ×"
    is_upper_bound: bool = False

    @property
    def row(self) -> tuple[str, str, str, str]:
        """Format the row of the table."""
        met = self.measured <= self.target if self.is_upper_bound else self.measured >= self.target
        return (
            self.name,
            self.number_format.format(self.target),
            self.number_format.format(self.measured),
            "yes" if met else "no",
        )


def print_throughput(
    title: str, unit: str, measurements: Mapping[str, Measurement], our_name: str, save_as: str | None = None
) -> None:
    """Print each candidate's median throughput, its slowest and fastest run, and our speedup.

    save_as: also write the figures to benchmarks/results/NAME-DATE.json.
    """
    if save_as:
        figures = {
            name: {"items": measured.items, "seconds": [round(seconds, 4) for seconds in measured.seconds]}
            for name, measured in measurements.items()
        }
        results_file.save(save_as, {"title": title, "unit": unit, "ours": our_name, "candidates": figures})
    rows = []
    for name, standing in measurements.items():
        low, high = standing.items_per_second_range
        ratio = measurements[our_name].items_per_second / standing.items_per_second
        rows.append(
            (
                name,
                _format_number(standing.items_per_second),
                f"{_format_number(low)} – {_format_number(high)}",
                f"{ratio:.2f} ×",
            )
        )
    print_table(title, ("", unit, "slowest – fastest run", "Batchmill is"), rows)


def print_targets(targets_to_print: Iterable[Target]) -> None:
    """Print figures beside their targets."""
    print_table("", ("figure", "target", "measured", "met"), [target.row for target in targets_to_print])


def print_table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print an aligned Markdown table."""
    lines = [header, *rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(header))]
    ruled = [*lines[:1], ["-" * width for width in widths], *lines[1:]]
    if title:
        print(f"\n### {title}")
    print()
    for line in ruled:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |")
    print(flush=True)


def _format_number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}"
