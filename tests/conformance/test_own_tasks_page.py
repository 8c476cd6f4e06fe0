"""The example of docs/how-to/own-tasks.md, as it stands on the page, run by the engine and tried by the checks."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.pipelines.catalogue import Catalogue
from models.settings import Settings
from tests.conformance.conftest import RunBatches
from worker.loading import runtime
from worker.task_checks import process

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "own-tasks.md").read_text("utf-8")
FILES = ("review_task.py", "review_adapter.py", "batchmill.toml")
MAX_LINES = 79


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """Settings of a folder that has the files of the page."""
    for name, text in zip(FILES, code_blocks(), strict=True):
        (tmp_path / name).write_text(text, "utf-8")
    monkeypatch.setenv("BATCHMILL_CONFIG", str(tmp_path / "batchmill.toml"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield Settings.load()
    for name in ("review_task", "review_adapter"):
        sys.modules.pop(name, None)


def code_blocks() -> list[str]:
    """The code of the complete example, in the order of FILES."""
    section = PAGE.partition("## A complete example")[2].partition("\n## ")[0]
    return re.findall(r"^`(?:[\w.]+)` has .*?^```(?:python|toml)\n(.*?)^```", section, re.DOTALL | re.MULTILINE)


def test_the_complete_example_is_short() -> None:
    assert sum(block.count("\n") for block in code_blocks()) <= MAX_LINES


def test_the_example_answers_as_the_page_says(settings: Settings, run_batches: RunBatches) -> None:
    loaded = runtime.load(Catalogue.load(settings)["reviews"], "cpu", threads=1)
    inputs = [
        {"body": "It looks lovely. The battery is terrible!", "product": "lamp"},
        "I love it.",
        {"body": "Bad. " * 80},
    ]

    positive, unknown, short = run_batches(
        loaded, inputs, [{}, {"label": "no such label"}, {"max_sentences": 1, "label": "POSITIVE"}]
    )

    assert positive[0].output["product"] == "lamp"
    assert positive[0].output["top"] == "The battery is terrible!"
    assert positive[0].output["scores"][0] < 0.5 < positive[0].output["scores"][1]
    assert positive[1].output["product"] is None
    assert len(positive[2].output["scores"]) == 50
    assert [row.error_code for row in unknown] == ["unknown_label"] * 3
    assert [len(row.output["scores"]) for row in short] == [1, 1, 1]


def test_the_example_passes_the_checks(settings: Settings) -> None:
    results = list(process.run(settings, "reviews", "cpu", (64, 0.2), lambda _message: None))

    assert [(result.check, result.message) for result in results if result.outcome != "ok"] == []


def test_submitters_import_no_adapter(settings: Settings) -> None:
    assert Catalogue.load(settings)["reviews"].task == "review-scores"
    assert "review_task" in sys.modules
    assert "review_adapter" not in sys.modules
