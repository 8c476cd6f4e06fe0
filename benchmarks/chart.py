"""Draws the host benchmark's results as benchmarks/host.svg: `python -m benchmarks.chart [FILE]`.

FILE is one that `make bench-host` has written; without it, the newest is taken. Each task has its own scale, because
tasks differ in cost by two orders of magnitude.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from benchmarks.host.tables import best_pipeline
from benchmarks.results_file import RESULTS_FOLDER

CHART = Path(__file__).parent / "host.svg"
WIDTH, TOP, ROW, BAR = 920, 92, 78, 18
LEFT, FULL_BAR = 210, 470  # where bars begin, and the length of a task's longest
STYLE = """
    .page { fill: #ffffff }
    .title { fill: #1c2330; font-size: 17px; font-weight: 600 }
    .name { fill: #1c2330; font-size: 14px; font-weight: 600 }
    .note { fill: #4a5464; font-size: 13px }
    .now { fill: #2f6fc4 }
    .before { fill: #9db4d3 }
    .pipeline { fill: #c98a5b }
    @media (prefers-color-scheme: dark) {
      .page { fill: #10151d }
      .title, .name { fill: #e8ecf2 }
      .note { fill: #b3bdcb }
      .now { fill: #6ba6f0 }
      .before { fill: #46658f }
      .pipeline { fill: #d99b6c }
    }
"""


def draw(results: Mapping[str, Any]) -> str:
    """Return the SVG of one results file."""
    tasks = results["tasks"]
    height = TOP + ROW * len(tasks) + 10
    machine = results["machine"]
    summary = "; ".join(
        f"{task['task']} {task['contestants']['now']['texts_per_second']:,.0f} texts/s" for task in tasks
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        'aria-labelledby="title text" font-family="system-ui, -apple-system, \'Segoe UI\', Helvetica, Arial, '
        'sans-serif">',
        '  <title id="title">Texts per second of one worker process when the model answers at once</title>',
        f'  <desc id="text">{escape(summary)}</desc>',
        f"  <style>{STYLE}  </style>",
        f'  <rect class="page" width="{WIDTH}" height="{height}" rx="6"/>',
        '  <text class="title" x="24" y="32">Texts per second of one process when the model answers at once</text>',
        f'  <text class="note" x="24" y="54">{escape(results["measured_at"][:10])}, two cores, '
        f"{escape(machine['processor'])}; torch {escape(machine['torch'])}, "
        f"transformers {escape(machine['transformers'])}{_load_note(results)}; each task has its own scale</text>",
    ]
    for index, task in enumerate(tasks):
        parts += _draw_task(task, TOP + ROW * index)
    return "\n".join([*parts, "</svg>", ""])


def _load_note(results: Mapping[str, Any]) -> str:
    """Other programs' load, where they took more than half of the two cores."""
    load = results.get("load_before", 0)
    return f"; load {load:.1f} before the run" if load > 1 else ""


def main() -> None:
    """Write the chart."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else max(RESULTS_FOLDER.glob("host-*.json"))
    CHART.write_text(draw(json.loads(path.read_text("utf-8"))), encoding="utf-8")
    print(f"Written: {CHART}, from {path}")


def _draw_task(task: Mapping[str, Any], top: int) -> list[str]:
    contestants, best = task["contestants"], best_pipeline(task)
    bars = [("now", "Batchmill", contestants["now"]["texts_per_second"])]
    if "before" in contestants:
        bars.append(("before", "Batchmill, row by row", contestants["before"]["texts_per_second"]))
    if best is not None:
        bars.append(("pipeline", f"pipeline(batch_size={best[0]})", best[1]["texts_per_second"]))
    longest = max(pace for _, _, pace in bars)
    parts = [f'  <text class="name" x="24" y="{top + 13}">{escape(task["task"])}</text>']
    for index, (kind, label, pace) in enumerate(bars):
        y, length = top + (BAR + 4) * index, max(2, round(FULL_BAR * pace / longest))
        parts += [
            f'  <rect class="{kind}" x="{LEFT}" y="{y}" width="{length}" height="{BAR}" rx="2"/>',
            f'  <text class="note" x="{LEFT + length + 8}" y="{y + 13}">{pace:,.0f} {escape(label)}</text>',
        ]
    return parts


if __name__ == "__main__":
    main()
