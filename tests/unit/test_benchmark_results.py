"""The tables, the chart and the files that benchmarks make from their results."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import __main__ as all_benchmarks
from benchmarks import chart, results_file
from benchmarks.host import output_differences, tables
from benchmarks.pages import published

SVG = "{http://www.w3.org/2000/svg}"


ROOM = Path(chart.__file__).parent


def test_every_benchmark_of_the_runner_and_of_the_page_is_a_module() -> None:
    page = (ROOM / "README.md").read_text("utf-8")
    [line] = [line for line in page.splitlines() if line.startswith("| `python -m benchmarks.NAME`")]
    named = re.findall(r"`(\w+)`", line)

    assert "matmul_ceiling" in named
    assert [name for name in (*all_benchmarks.BENCHMARKS, *named) if not (ROOM / f"{name}.py").exists()] == []


def test_the_page_has_the_figures_of_the_newest_run_of_pages() -> None:
    readme = published.README.read_text("utf-8")

    assert published.write_into(readme, published.newest()) == readme


def pages_result(median: float, load: float) -> dict:
    pages = [{"name": name, "p50": median, "p99": 200.0} for name in published.TARGET_PAGES]
    opened = [{"pages": 50, "is_busy": is_busy, "core_share": 0.04 + 0.02 * is_busy} for is_busy in (False, True)]
    slow = [{**page, "p50": 1_030.0} for page in pages]
    databases = {
        name: {"first_load_bytes": 59_394, "pages": chosen, "open_pages": opened}
        for name, chosen in (("SQLite", pages), ("PostgreSQL", slow))
    }
    machine = {"load": load, "cores": 2}
    return {
        "measured_at": "2026-11-30 07:32 UTC",
        "machine": machine,
        "jobs": 1_000_000,
        "batches": 10_000,
        "databases": databases,
    }


def test_figures_of_pages_are_beside_their_targets() -> None:
    table = published.figures(pages_result(40.0, load=13.8))

    assert "30 November 2026, **beside other programs (load 13.8)**; 1,000,000 jobs in one batch" in table
    assert "| overview, p50 / p99, ms | 40 / 200 | 1,030 / 200 | p50 100: met on SQLite only |" in table
    assert "| first load of the overview, compressed, kB | 59 | 59 | 150: met |" in table
    assert "| 50 open pages while a worker writes, % of a core | 6.0 | 6.0 | 5: not met |" in table
    assert "machine idle otherwise" in published.figures(pages_result(40.0, load=1.9))


def figures(pace: float, **microseconds: float) -> dict:
    return {"texts_per_second": pace, "slowest": pace, "fastest": pace, "microseconds": microseconds}


def task_result(**changes: object) -> dict:
    return {
        "task": "ner",
        "items": 100,
        "contestants": {
            "now": figures(3_000.0, claim=20.0, device=5.0, write=30.0, process=60.0),
            "before": figures(900.0, claim=40.0, device=6.0, write=900.0, process=950.0),
            "pipeline 8": figures(400.0, process=1_200.0),
            "pipeline 64": figures(500.0, process=1_100.0),
        },
        "pipeline_target": None,
        "before_target": 3.0,
        "outputs_equal": True,
        "compared_with_pipeline": 64,
        "unlike_pipeline": 0,
        "missing": {},
        **changes,
    }


def test_ratios_are_against_the_older_commit_and_the_best_batch_size() -> None:
    before, pipeline = tables.ratios(task_result())

    assert before == pytest.approx(3.33, abs=0.01)
    assert pipeline == 6.0
    assert tables.best_pipeline(task_result())[0] == "64"


def test_a_missed_target_and_different_outputs_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    tables.print_tables([task_result(before_target=4.0, pipeline_target=2.0, outputs_equal=False)], "674adb8f")

    printed = capsys.readouterr().out
    assert "before: no; 2.0" in printed
    assert "pipeline(): yes" in printed
    assert "DIFFERENT" in printed
    assert "900.0 → 30.0" in printed


def test_outputs_that_were_not_compared_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    tables.print_tables([task_result(outputs_equal=None, compared_with_pipeline=0)], None)

    assert capsys.readouterr().out.count("not compared") == 2


def test_outputs_match_within_the_tolerance_of_scores_only() -> None:
    ours = [[{"word": "Ada", "score": 0.91}], [{"word": "Ada", "score": 0.91}], [{"word": "Ada", "score": 0.91}]]
    theirs = [[{"word": "Ada", "score": 0.910001}], [{"word": "Eve", "score": 0.91}], [{"word": "Ada", "score": 0.92}]]

    differences = output_differences.find_differences(ours, theirs)

    assert [position for position, _, _ in differences] == [1, 2]


def test_a_target_without_its_peer_is_not_met() -> None:
    now = {"now": figures(3_000.0, claim=1.0, device=1.0, write=1.0, process=3.0)}

    assert tables.ratios(task_result(contestants=now)) == (None, None)


def test_the_chart_has_a_bar_for_each_contestant_in_proportion() -> None:
    results = {
        "measured_at": "2026-11-29 16:00 UTC",
        "machine": {"processor": "AMD <EPYC> & others", "torch": "2.13.0", "transformers": "5.23.0"},
        "load_before": 3.2,
        "tasks": [task_result()],
    }

    picture = ElementTree.fromstring(chart.draw(results))

    notes = [note.text or "" for note in picture.iter(f"{SVG}text") if note.get("class") == "note"]
    assert "2026-11-29" in notes[0]
    assert "load 3.2 before the run" in notes[0]
    widths = {bar.get("class"): int(bar.get("width")) for bar in picture.iter(f"{SVG}rect")}
    assert widths["now"] == chart.FULL_BAR
    assert widths["before"] == pytest.approx(chart.FULL_BAR * 0.3, abs=1)
    assert widths["pipeline"] == pytest.approx(chart.FULL_BAR / 6, abs=1)
    assert any("500 pipeline(batch_size=64)" in (label.text or "") for label in picture.iter(f"{SVG}text"))


def test_results_are_saved_with_their_machine(tmp_path: Path) -> None:
    path = results_file.save("host", {"tasks": []}, tmp_path / "results")

    saved = json.loads(path.read_text())
    assert path.name == f"host-{saved['measured_at'][:10]}.json"
    assert {"processor", "cores", "python", "torch", "transformers"} <= saved["machine"].keys()
    assert saved["tasks"] == []
