"""A guard model reads whole texts by windows, and what any window shows counts."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from models.errors import JobError
from models.guards.definition import Guard
from tests.factories import tiny_encoders
from tests.factories.tiny_models import pipeline_for
from worker.adapters.rows import Row
from worker.guards.guard_model import GuardModel, ModelReading, RowOutput
from worker.loading import runtime
from worker.passes import planning

Made = Callable[[str], Path]

LABEL_GUARD = Guard(on="input", action="fail", pipeline="made", label=("LABEL_0", "LABEL_1"), threshold=0.0)
NAMES_GUARD = Guard(on="input", action="redact", pipeline="made", threshold=0.0)


def guard_model(folder: Path, task: str = "sentiment-analysis", **entry: Any) -> GuardModel:
    """A guard's model as a worker loads it."""
    guard = NAMES_GUARD if task == "ner" else LABEL_GUARD
    made = pipeline_for(folder, name="made", task=task, **entry)
    guarded = pipeline_for(folder, name="guarded", task=task, guards={"one": guard}).with_guard_pipelines(
        {"made": made}
    )
    return GuardModel("made", runtime.load(guarded, "cpu", threads=1).guards["made"])


def passes(model: GuardModel, runs: list[int] | None = None) -> Callable[[Sequence[Row]], list[RowOutput]]:
    def run(rows: Sequence[Row]) -> list[RowOutput]:
        if runs is not None:
            runs.append(len(rows))
        raw: dict[int, Any] = {}
        for batch in planning.plan_micro_batches(rows, 256, 8):
            outputs = model.runtime.adapter.forward(batch)
            raw.update({id(row): output for row, output in zip(batch.rows, outputs, strict=True)})
        return [RowOutput(raw[id(row)], 0.5) for row in rows]

    return run


def read(model: GuardModel, texts: Sequence[str]) -> list[ModelReading]:
    readings = model.read(texts, passes(model))
    assert all(isinstance(reading, ModelReading) for reading in readings)
    return readings  # type: ignore[return-value]


@pytest.fixture(scope="module")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoders.token_classifier(tmp_path_factory.mktemp("tagger") / "bert", "bert")


def test_all_labels_have_their_scores(made: Made) -> None:
    [reading] = read(guard_model(made("bert")), ["love it"])

    assert sorted(finding.label for finding in reading.findings) == ["LABEL_0", "LABEL_1"]
    assert sum(finding.score for finding in reading.findings) == pytest.approx(1)
    assert (reading.windows, reading.device_seconds) == (1, 0.5)


def test_equal_texts_are_read_once(made: Made) -> None:
    model, runs = guard_model(made("bert")), []  # type: ignore[var-annotated]

    first, other, again, blank = model.read(["love", "hate", "love", " \n"], passes(model, runs))

    assert runs == [2]
    assert isinstance(first, ModelReading)
    assert isinstance(again, ModelReading)
    assert (again.findings, again.device_seconds) == (first.findings, 0)
    assert other != first
    assert blank == ModelReading()


def test_a_text_that_fails_leaves_the_others(made: Made) -> None:
    model = guard_model(made("bert"))
    error = JobError("invalid_output", "no numbers")

    def run(rows: Sequence[Row]) -> list[RowOutput]:
        outputs = passes(model)(rows)
        return [
            RowOutput(error) if row.job.position == 1 else output for row, output in zip(rows, outputs, strict=True)
        ]

    readings = model.read(["love", "hate", "great"], run)

    assert readings[1] is error
    assert isinstance(readings[0], ModelReading)
    assert isinstance(readings[2], ModelReading)


def test_entities_of_all_windows_are_found_at_their_characters(tagger: Path) -> None:
    model = guard_model(tagger, "ner")
    text = "🙂é " * 3 + "love the great 世 product " * 40

    [reading] = read(model, [text])

    assert reading.windows > 1
    got = model.reading_for(NAMES_GUARD, reading)
    assert got.caught
    assert all(0 <= span.start < span.end <= len(text) for span in got.spans)
    assert all(not text[span.start : span.end].startswith(" ") for span in got.spans)


def test_memory_is_bounded_and_portions_change_nothing(tagger: Path) -> None:
    model, runs = guard_model(tagger, "ner"), []  # type: ignore[var-annotated]
    text = "love the great product " * 60
    [whole] = read(model, [text])
    small = GuardModel("made", model.runtime, max_portion_bytes=4_000)

    [parts] = small.read([text], passes(small, runs))

    assert len(runs) > 3
    assert isinstance(parts, ModelReading)
    assert parts.findings == whole.findings


def test_windows_that_can_not_be_decoded_together_are_decoded_alone(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = guard_model(made("bert"))
    texts = ["love", "hate", "great"]
    expected = read(model, texts)
    decode_many = model.runtime.adapter.decode_many  # type: ignore[attr-defined]

    def fail_at_the_second(jobs: Sequence[Any]) -> Any:
        yield from decode_many(jobs[:1])
        raise ValueError("a defect")

    monkeypatch.setattr(model.runtime.adapter, "decode_many", fail_at_the_second)

    assert read(model, texts) == expected


def test_a_text_whose_scores_are_no_numbers_fails_alone(made: Made) -> None:
    model = guard_model(made("bert"))

    def run(rows: Sequence[Row]) -> list[RowOutput]:
        outputs = passes(model)(rows)
        outputs[1].raw[:] = float("nan")
        return outputs

    readings = model.read(["love", "hate", "great"], run)

    assert [type(reading) for reading in readings] == [ModelReading, JobError, ModelReading]


def test_a_panic_of_the_tokenizer_belongs_to_its_text(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    class Panic(BaseException):
        """What libraries written in Rust raise: no Exception."""

    model = guard_model(made("bert"))
    encode = model.runtime.adapter.encode

    def fail_on_hate(jobs: Sequence[Any]) -> Any:
        if any("hate" in job.input["text"] for job in jobs):
            raise Panic("hate")
        return encode(jobs)

    monkeypatch.setattr(model.runtime.adapter, "encode", fail_on_hate)

    readings = model.read(["love", "hate", "great"], passes(model))

    assert [type(reading) for reading in readings] == [ModelReading, RuntimeError, ModelReading]
    assert str(readings[1]) == "Panic"


def test_the_wait_for_another_thread_is_not_watched(made: Made) -> None:
    model = guard_model(made("bert"))
    has_lock: list[bool] = []

    @contextmanager
    def watch() -> Iterator[None]:
        has_lock.append(model._lock.locked())
        yield
        has_lock.append(model._lock.locked())

    model.read(["love"], passes(model), watch)

    assert has_lock == [True, True]
