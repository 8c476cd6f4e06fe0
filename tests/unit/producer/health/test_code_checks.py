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


@pytest.mark.parametrize(
    ("code", "reference", "problem"),
    [
        ("def make(:\n", "broken_code:make", "broken_code.py, line 1 can't be read as Python"),
        ("def other(): ...\n", "broken_code:make", "broken_code has no make"),
        ("import a as b\n", "broken_code:a", "broken_code has no a"),
        ("from .make import it\n", "broken_code:make.it", None),
        ("make = 1\n", "broken_code.inner:make", "there is no module broken_code.inner"),
        ("raise ValueError\ntry:\n    from a import b as make\nexcept ImportError: ...\n", "broken_code:make", None),
        ("class Made:\n    def make(self): ...\n", "broken_code:Made.make", None),
        ("from a import *\n", "broken_code:make", None),
        ("globals()['ma' + 'ke'] = 1\n", "broken_code:make", None),
    ],
)
def test_code_that_cannot_be_loaded_is_a_warning_and_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, reference: str, problem: str | None
) -> None:
    (tmp_path / "broken_code.py").write_text(code)
    (tmp_path / "batchmill.toml").touch()
    monkeypatch.chdir(tmp_path)

    [finding] = code_checks.check_logits_processors([entry(reference)])

    assert finding.level == (WARNING if problem else OK)
    assert problem is None or finding.message == f"stories: {reference} can't be loaded: {problem}"


def test_pipelines_without_processors_are_not_mentioned() -> None:
    assert list(code_checks.check_logits_processors([entry()])) == []


def test_the_doctor_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fields = {"task": "text-generation", "model": "bundled:text-generation", "logits_processors": [GONE]}

    found = [finding.message for finding in doctor._check_pipelines(Settings.load(pipelines={"a": fields}), [])]

    assert f"a: the code of {GONE} is not on this machine" in found
