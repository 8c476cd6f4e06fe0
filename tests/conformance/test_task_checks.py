"""The samples of all tasks pass the checks that `batchmill tasks check` makes of a task of one's own."""

import pytest

from models.pipelines.builtin import BUILTIN_PIPELINES
from models.settings import Settings
from worker.task_checks import process

SAMPLES = [entry.name for entry in BUILTIN_PIPELINES if entry.name.startswith("sample-")]


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_passes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    results = list(process.run(Settings.load(), name, "cpu", (64, 0.2), lambda _message: None))

    assert [(result.check, result.message) for result in results if result.outcome == "failed"] == []
    assert len(results) == 12
