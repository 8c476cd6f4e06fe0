"""Writes the figures of the newest run into benchmarks/README.md; each run of `python -m benchmarks.pages` does."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks import results_file

MAX_PAGE_MS, MAX_FIRST_LOAD_KB, MAX_CORE_SHARE = 100.0, 150.0, 0.05
TARGET_PAGES = ("overview", "batches", "batch of a million jobs")

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- figures of pages -->\n", "<!-- end of figures of pages -->"
IDLE_LOAD = 2.5  # the benchmark with its server and database


def newest() -> dict[str, Any]:
    """Return the newest recorded run."""
    path = max(results_file.RESULTS_FOLDER.glob("pages-*.json"))
    document: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return document


def publish() -> None:
    """Bring the table of benchmarks/README.md up to the newest recorded run."""
    README.write_text(write_into(README.read_text("utf-8"), newest()), "utf-8")


def write_into(readme: str, document: Mapping[str, Any]) -> str:
    """Return the page with the figures of a run in place of those that it has."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + figures(document) + END + after


def figures(document: Mapping[str, Any]) -> str:
    """Return the date of a run and its table, in Markdown."""
    measured = datetime.strptime(document["measured_at"], "%Y-%m-%d %H:%M UTC")
    machine, databases = document["machine"], document["databases"]
    is_idle = machine["load"] <= IDLE_LOAD
    state = "machine idle otherwise" if is_idle else f"**beside other programs (load {machine['load']:g})**"
    size = f"{document['jobs']:,} jobs in one batch, {document['batches']:,} small batches"
    lines = [["", *databases, "target"], ["---"] * (len(databases) + 2), *_rows(databases)]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines).replace("|  |", "| |").replace(" --- ", "---")
    return f"\n{measured.day} {measured:%B %Y}, {state}; {size}:\n\n{table}\n"


def _rows(databases: Mapping[str, Any]) -> Iterator[list[str]]:
    names = tuple(databases)
    pages = [{page["name"]: page for page in of["pages"]} for of in databases.values()]
    for name in pages[0]:
        medians = [of[name]["p50"] for of in pages]
        goal = _goal(names, medians, MAX_PAGE_MS, "p50 ") if name in TARGET_PAGES else ""
        yield [f"{name}, p50 / p99, ms", *(f"{of[name]['p50']:,.0f} / {of[name]['p99']:,.0f}" for of in pages), goal]
    sizes = [of["first_load_bytes"] / 1000 for of in databases.values()]
    sizes_goal = _goal(names, sizes, MAX_FIRST_LOAD_KB)
    yield ["first load of the overview, compressed, kB", *(f"{size:.0f}" for size in sizes), sizes_goal]
    for place, row in enumerate(databases[names[0]]["open_pages"]):
        shares = [100 * of["open_pages"][place]["core_share"] for of in databases.values()]
        state = "while a worker writes" if row["is_busy"] else "while nothing happens"
        cells = [f"{share:.1f}" for share in shares]
        yield [f"{row['pages']} open pages {state}, % of a core", *cells, _goal(names, shares, 100 * MAX_CORE_SHARE)]


def _goal(names: Sequence[str], values: Sequence[float], limit: float, what: str = "") -> str:
    met = [name for name, value in zip(names, values, strict=True) if value <= limit]
    verdict = "met" if len(met) == len(names) else f"met on {', '.join(met)} only" if met else "not met"
    return f"{what}{limit:g}: {verdict}"
