"""A tokenizer's trial: one that would eat a worker up is refused by name, and any other is left to the load."""

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from models.errors import LoadFailed, ModelError
from models.pipelines.pipeline import SAMPLES_FOLDER
from tests.factories.tiny_models import pipeline_for
from worker.loading import runtime
from worker.loading.tokenizers import tokenizer_probe


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    shutil.copytree(SAMPLES_FOLDER / "text-generation", folder)
    return folder


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def replacing(times: int, pattern: Any, content: str) -> dict[str, Any]:
    one = {"type": "Replace", "pattern": pattern, "content": content}
    return {"type": "Sequence", "normalizers": [one] * times}


BOMBS = {
    "a doubled letter": replacing(40, {"String": "e"}, "ee"),
    "a doubled blank": replacing(40, {"String": " "}, "  "),
    "any character": replacing(8, {"Regex": "."}, "x" * 64),
    "one large step": replacing(1, {"String": "e"}, "e" * 100_000),
}


@pytest.mark.parametrize("normalizer", BOMBS.values(), ids=BOMBS)
def test_one_that_grows_a_short_text_is_refused(folder: Path, normalizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer_probe, "MAX_CPU_SECONDS", 1)
    edit(folder, normalizer=normalizer)

    with pytest.raises(ModelError, match=f"^the tokenizer of {folder} .*; take another$"):
        runtime.load(pipeline_for(folder, task="text-generation"), "cpu")


@pytest.mark.parametrize(
    "changes",
    [
        {"normalizer": replacing(2, {"String": "``"}, '"')},
        {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": r"\s+|\w+"}, "behavior": "Isolated", "invert": False}},
        {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}},
        {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(("}, "behavior": "Isolated", "invert": False}},
        {"normalizer": {"type": "Replace"}},
    ],
)
def test_any_other_is_left_to_the_load(folder: Path, changes: Any) -> None:
    edit(folder, **changes)

    tokenizer_probe.check("made", folder)


def test_a_trial_that_is_killed_says_nothing_of_the_tokenizer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer_probe, "_run_probe", lambda *_given: -signal.SIGKILL)
    edit(folder, normalizer=replacing(2, {"String": "``"}, '"'))

    with pytest.raises(LoadFailed, match="ended by signal 9"):
        tokenizer_probe.check("made", folder)


def test_the_usual_ones_cost_no_process(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer_probe, "_run_probe", None)

    for sample in ("text-generation", "sentiment-analysis"):
        tokenizer_probe.check(sample, SAMPLES_FOLDER / sample)
    (folder / "tokenizer.json").unlink()
    tokenizer_probe.check("made", folder)
