"""The example that translates notes and labels the translations, run with its real models in one process.

The processes of the examples are tested with the nightly one.
"""

import importlib
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

from tests.single_process import SingleProcess

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "translate_then_classify"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The example's program, without the processes of `batchmill up`."""
    monkeypatch.syspath_prepend(EXAMPLE)
    program = importlib.import_module("run")
    monkeypatch.setattr(program, "Deployment", partial(SingleProcess, monkeypatch, "02:00+01:00"))
    yield program
    for name in ("run", "german_notes", "deployment"):
        sys.modules.pop(name, None)


def test_the_example_ends_as_its_page_says(
    example: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    example.main(tmp_path)

    output = capsys.readouterr().out
    with closing(sqlite3.connect(tmp_path / "home" / "batchmill.db")) as connection:
        runs = connection.execute(
            "SELECT schedule, state, trigger, source_batch_id IS NOT NULL FROM runs ORDER BY scheduled_at, schedule"
        ).fetchall()
        table = connection.execute('SELECT id, label, "input.text" FROM note_labels ORDER BY id').fetchall()
    labels, translations = ("nightly-labels", "completed", "after", 1), ("nightly-translations", "completed", "cron", 0)
    assert runs == [labels, translations] * 2
    assert [row[0] for row in table] == list(range(1, 13))
    assert table[0] == (1, "PRAISE", "The hotel is wonderful.")
    assert sum(label == "COMPLAINT" for _, label, _ in table) == 5
    assert "  2  The soup is cold.               Die Suppe ist kalt.                 COMPLAINT" in output
    assert "nightly-labels        active  after nightly-translations" in output
    assert "created nightly-labels; next: when a run of nightly-translations completes" in output
