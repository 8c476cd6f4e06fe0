"""The warning about workers that have other settings, or other code, than a submitter."""

import pytest

from models import operator_code
from models.pipelines.pipeline import Pipeline
from producer.workers import model_checks
from producer.workers.workers import WorkerView

REFERENCE = "package_of_this_test:no_digits"


def worker(settings_hash: str) -> WorkerView:
    return WorkerView(
        "w",
        "host",
        7,
        "cpu",
        "p",
        "m",
        "new",
        ["p"],
        "ready",
        1.0,
        1.0,
        1.0,
        True,
        settings_hashes={"p": settings_hash},
    )


def pipeline(*processors: str) -> Pipeline:
    return Pipeline(name="p", task="text-generation", model="bundled:text-generation", logits_processors=processors)


def test_other_settings_are_named() -> None:
    message = model_checks.other_settings_warning(pipeline(), [worker("other")])

    assert message is not None
    assert "workers run p with other settings than batchmill.toml has here: host (process 7)" in message


@pytest.mark.parametrize(("version", "words"), [("filters 1.0", "filters 1.0"), (None, "not installed")])
def test_the_version_of_the_code_here_is_named(
    monkeypatch: pytest.MonkeyPatch, version: str | None, words: str
) -> None:
    with monkeypatch.context() as before:
        before.setattr(operator_code, "code_version", lambda _reference: "filters 0.9")
        settings_hash = pipeline(REFERENCE).settings_hash
    monkeypatch.setattr(operator_code, "code_version", lambda _reference: version)

    message = model_checks.other_settings_warning(pipeline(REFERENCE), [worker(settings_hash)])

    assert message is not None
    assert f"its code here is {words}; " in message
    assert "install the same version" in message


def test_equal_code_and_settings_give_no_warning() -> None:
    assert model_checks.other_settings_warning(pipeline(), [worker(pipeline().settings_hash)]) is None
