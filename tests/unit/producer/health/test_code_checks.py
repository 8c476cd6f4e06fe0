"""Findings about the operator's logits processors."""

from pathlib import Path

import pytest

from models.pipelines.pipeline import Pipeline
from models.settings import Settings
from producer.health import code_checks, doctor
from producer.health.findings import OK, WARNING

HERE, GONE = "tests.factories.logits_controls:no_digits", "missing_package:no_digits"


def entry(*references: str) -> Pipeline:
    fields = {"task": "text-generation", "model": "bundled:text-generation", "logits_processors": references}
    return Pipeline(name="stories", **fields)


def test_code_that_is_not_here_is_a_warning() -> None:
    missing, fine = code_checks.check_logits_processors([entry(HERE, GONE)])

    assert (missing.level, missing.message) == (WARNING, f"stories: the code of {GONE} is not on this machine")
    assert fine.level == OK
    assert fine.message.startswith(f"{HERE} (tests sha256:")


def test_pipelines_without_processors_are_not_mentioned() -> None:
    assert list(code_checks.check_logits_processors([entry()])) == []


def test_the_doctor_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fields = {"task": "text-generation", "model": "bundled:text-generation", "logits_processors": [GONE]}

    found = [finding.message for finding in doctor._check_pipelines(Settings.load(pipelines={"a": fields}), [])]

    assert f"a: the code of {GONE} is not on this machine" in found
