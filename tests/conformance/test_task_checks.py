"""The samples of all tasks pass the checks that `batchmill tasks check` makes of a task of one's own."""

from pathlib import Path

import pytest

from models.pipelines.builtin import BUILTIN_PIPELINES
from models.settings import Settings
from tests.conformance.test_generic_pipelines import long_tokenizer
from tests.factories import tiny_decoders, tiny_tables
from worker.task_checks import process

SAMPLES = [entry.name for entry in BUILTIN_PIPELINES if entry.name.startswith("sample-")]


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_passes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    results = list(process.run(Settings.load(), name, "cpu", (64, 0.2), lambda _message: None))

    assert [(result.check, result.message) for result in results if result.outcome == "failed"] == []
    assert len(results) == 13


def test_pipelines_that_transformers_runs_pass_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    tables = {"task": "table-question-answering", "model": str(tiny_tables.tapas(tmp_path / "tapas", aggregates=True))}
    decisions = {
        "task": "decision",
        "model": str(tiny_decoders.qwen2(tmp_path / "model", max_position_embeddings=1_000)),
        "tokenizer": str(long_tokenizer(tmp_path / "tokenizer")),
    }
    (tmp_path / "model" / "decision.json").write_text(
        '{"labels": {"noul": ["a", "b"], "choice": ["a", "b"], "score": ["a", "b", "c"]}}'
    )
    settings = Settings.load(pipelines={"tables": tables, "decisions": decisions})

    results = [
        result
        for name in ("tables", "decisions")
        for result in process.run(settings, name, "cpu", (32, 0.2), lambda _message: None)
    ]

    assert [(result.check, result.message) for result in results if result.outcome == "failed"] == []
    assert len(results) == 26
