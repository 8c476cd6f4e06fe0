"""The tables of the host benchmark."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import report

PACE_COLUMNS = (
    "task",
    "texts/s",
    "before",
    "pipeline() at its best",
    "× before",
    "× pipeline()",
    "targets met",
    "outputs beside row by row",
    "beside pipeline()",
)
THREADS = ("claim", "device", "write", "process")


def print_tables(results: Sequence[Mapping[str, Any]], commit: str | None) -> None:
    """Print the paces with their ratios and targets, and the processor time by thread."""
    older = commit[:7] if commit else "no older commit"
    report.print_table(
        f"Host benchmark: a model that answers at once, one process on two cores; before = {older}",
        PACE_COLUMNS,
        [_pace_row(result) for result in results],
    )
    report.print_table(
        "Processor time in µs per text, before → now; a thread's time is nearly all under the interpreter's lock",
        ("task", *THREADS, "pipeline() at its best", "before ÷ now", "pipeline() ÷ now"),
        [_time_row(result) for result in results],
    )


def best_pipeline(result: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
    """Return the batch size and the figures of the fastest pipeline."""
    found = [(name.split()[1], of) for name, of in result["contestants"].items() if name.startswith("pipeline")]
    return max(found, key=lambda item: item[1]["texts_per_second"], default=None)


def ratios(result: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Return our speed relative to the older commit and to the best pipeline, None = not measured."""
    paces = {name: of["texts_per_second"] for name, of in result["contestants"].items()}
    best = best_pipeline(result)
    before = paces["now"] / paces["before"] if "before" in paces else None
    return before, paces["now"] / best[1]["texts_per_second"] if best else None


def _pace_row(result: Mapping[str, Any]) -> tuple[str, ...]:
    contestants = result["contestants"]
    before, pipeline = ratios(result)
    return (
        result["task"],
        f"{contestants['now']['texts_per_second']:,.0f}",
        f"{contestants['before']['texts_per_second']:,.0f}" if "before" in contestants else "–",
        _best_cell(result),
        f"{before:.2f} ×" if before else "–",
        f"{pipeline:.2f} ×" if pipeline else "–",
        _met(
            (before, result["before_target"], "× before"),
            (pipeline, result["pipeline_target"], "× pipeline()"),
            (contestants["now"]["texts_per_second"], result.get("min_pace"), "texts/s"),
        ),
        {True: "equal", False: "DIFFERENT", None: "not compared"}[result["outputs_equal"]],
        _pipeline_outputs(result),
    )


def _best_cell(result: Mapping[str, Any]) -> str:
    best = best_pipeline(result)
    if best is None:
        return "not run"
    sizes = [name.split()[1] for name in result["contestants"] if name.startswith("pipeline")]
    return f"{best[1]['texts_per_second']:,.0f} (batch_size={best[0]} of {', '.join(sizes)})"


def _pipeline_outputs(result: Mapping[str, Any]) -> str:
    compared, different = result["compared_with_pipeline"], result["unlike_pipeline"]
    if not compared:
        return "not compared"
    return f"{different} of {compared} DIFFERENT" if different else f"{compared} equal"


def _met(*pairs: tuple[float | None, float | None, str]) -> str:
    parts = []
    for measured, target, name in pairs:
        if target is not None:
            verdict = "not measured" if measured is None else "yes" if measured >= target else "no"
            figure = f"{target:.1f}" if target < 100 else f"{target:,.0f}"
            parts.append(f"{figure} {name}: {verdict}")
    return "; ".join(parts) or "none set"


def _time_row(result: Mapping[str, Any]) -> tuple[str, ...]:
    now = result["contestants"]["now"]["microseconds"]
    before = result["contestants"].get("before", {}).get("microseconds", {})
    best = best_pipeline(result)
    cells = [
        f"{before[name]:.1f} → {now.get(name, 0):.1f}" if name in before else f"{now.get(name, 0):.1f}"
        for name in THREADS
    ]
    of_pipeline = best[1]["microseconds"]["process"] if best else None
    return (
        result["task"],
        *cells,
        f"{of_pipeline:.0f}" if of_pipeline else "–",
        f"{before['process'] / now['process']:.2f} ×" if before else "–",
        f"{of_pipeline / now['process']:.2f} ×" if of_pipeline else "–",
    )
