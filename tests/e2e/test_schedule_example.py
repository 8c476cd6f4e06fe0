"""The example of a nightly schedule, run with a real worker, and its rows in SQL at the end."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.servers import processes_in, wait_until

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "nightly" / "run.py"


def rows(file: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(query).fetchall()


def test_the_example_ends_as_its_page_says(tmp_path: Path) -> None:
    folder = tmp_path / "example"

    process = subprocess.run(
        [sys.executable, str(EXAMPLE), str(folder)], capture_output=True, text=True, timeout=500, check=False
    )

    assert process.returncode == 0, process.stdout + process.stderr
    own, shop = folder / "home" / "batchmill.db", folder / "shop.db"
    runs = rows(own, "SELECT scheduled_at, state, summary FROM runs ORDER BY scheduled_at")
    assert [(scheduled_at[:16], state) for scheduled_at, state, _ in runs] == [
        (f"2026-03-{day} 01:00", "completed") for day in (27, 28, 29)
    ]
    counts = [
        tuple(json.loads(summary)[name] for name in ("total", "computed", "reused", "failed", "truncated"))
        for *_, summary in runs
    ]
    assert counts == [(180, 180, 0, 0, 1), (88, 57, 30, 1, 0), (80, 60, 20, 0, 0)]
    kinds = rows(own, "SELECT kind FROM events ORDER BY id")
    assert [kind for (kind,) in kinds] == ["overdue"]  # the events of a repeated run are deleted with it
    for word in ("model changed", "drift", "moved", "caught up 6 h 3", "1 failed", "30 reused"):
        assert word in process.stdout

    # Each ticket with a text has one label, of one model, from the last run that read it.
    days = (
        "SELECT substr(scheduled_at, 1, 10), count(*), count(DISTINCT revision) "
        "FROM ticket_labels GROUP BY 1 ORDER BY 1"
    )
    assert rows(shop, days) == [("2026-03-27", 122, 1), ("2026-03-28", 87, 1), ("2026-03-29", 80, 1)]
    assert rows(shop, "SELECT count(DISTINCT revision) FROM ticket_labels") == [(1,)]
    missing = "SELECT count(*) FROM tickets WHERE id NOT IN (SELECT id FROM ticket_labels)"
    assert rows(shop, f"{missing} AND body IS NOT NULL") == [(0,)]
    assert rows(shop, missing) == [(1,)]
    stale = "SELECT count(*) FROM tickets t JOIN ticket_labels l ON l.id = t.id WHERE l.text <> t.body"
    assert rows(shop, stale) == [(0,)]

    wait_until(lambda: processes_in(folder) == [], "the last of its processes to end")
