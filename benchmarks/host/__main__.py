"""Compare the host's cost per text with an older commit and with `pipeline()`, where the model answers at once.

Prints two tables and writes benchmarks/results/host-DATE.json. Ends with status 1 if outputs differ,
from those of the row-by-row path or from those of `pipeline()`.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import results_file
from benchmarks.host import older_commit
from benchmarks.host.comparison import TaskComparison
from benchmarks.host.tables import print_tables
from benchmarks.host.workloads import WORKLOADS

DEFAULT_ITEMS = 24_000


def main() -> int:
    """Run the comparison of each task, one after the other; returns the exit status."""
    options = _parse_options()
    started, load = time.monotonic(), round(os.getloadavg()[0], 1)
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="batchmill-host-") as folder:
        before, commit = _prepare_older_commit(options.before, Path(folder) / "before")
        for task in options.tasks.split(","):
            print(f"{task} …", file=sys.stderr, flush=True)
            comparison = TaskComparison(WORKLOADS[task], Path(folder) / task, before, options)
            results.append(comparison.run())
            path = _save(options, commit, load, results)  # after each, so that an interruption loses one task
    print_tables(results, commit)
    print(f"The run took {(time.monotonic() - started) / 60:.1f} minutes. Written: {path}")
    has_differences = any(result["outputs_equal"] is False or result["unlike_pipeline"] for result in results)
    return 1 if has_differences else 0


def _save(options: argparse.Namespace, commit: str | None, load: float, results: list[dict[str, Any]]) -> Path:
    figures = {
        "items": options.items,
        "rounds": options.rounds,
        "database": options.database,
        "before": commit,
        "load_before": load,  # of other programs; that of the machine below includes this benchmark
        "load_after": round(os.getloadavg()[0], 1),
        "tasks": results,
    }
    is_whole = options.tasks == ",".join(WORKLOADS)
    return results_file.save("host" if is_whole else "some-of-host", figures)


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--items", type=int, default=DEFAULT_ITEMS, help="texts of sentiment-analysis in one run")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each contestant")
    parser.add_argument("--before", default=older_commit.LAST_ROW_BY_ROW, help="the commit to compare with, or none")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--tasks", default=",".join(WORKLOADS), help="tasks, separated by commas")
    parser.add_argument("--batch-sizes", help="batch sizes of pipeline(), or none; without it, those of each workload")
    options = parser.parse_args()
    unknown = set(options.tasks.split(",")) - set(WORKLOADS)
    if unknown:
        parser.error(f"unknown tasks: {', '.join(sorted(unknown))}; choose from {', '.join(WORKLOADS)}")
    return options


def _prepare_older_commit(commit: str, folder: Path) -> tuple[Path | None, str | None]:
    if commit == "none":
        return None, None
    try:
        return folder, older_commit.extract(commit, folder)
    except RuntimeError as error:
        print(f"No comparison with {commit}: {error}", file=sys.stderr, flush=True)
        return None, None


if __name__ == "__main__":
    sys.exit(main())
