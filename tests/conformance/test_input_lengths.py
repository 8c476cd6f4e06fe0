"""The lengths that a dry run counts are those by which a worker truncates or refuses inputs."""

from pathlib import Path
from typing import Any

import pytest

from models.documents import to_json
from models.pipelines.builtin import BUILTIN_PIPELINES
from producer.dry_run.input_lengths import LengthHistogram, LengthLimit
from tests.conformance.conftest import RunBatches
from tests.factories import cross_encoders, tiny_encoders
from worker.loading import runtime

BY_NAME = {pipeline.name: pipeline for pipeline in BUILTIN_PIPELINES}
WORDS = "the river Sarah 😀 naïve 世界 city Berlin antidisestablishmentarianism 1644 , x"
TEXTS = [" ".join((f"{WORDS} " * 4).split()[:words]) for words in range(1, 40, 3)]

CASES: list[tuple[str, int, list[Any], dict[str, Any]]] = [
    ("sentiment-analysis", 24, TEXTS, {}),
    ("sentiment-analysis", 24, [{"text": text, "text_pair": "a pair"} for text in TEXTS], {}),
    ("ner", 24, TEXTS, {}),
    ("zero-shot-classification", 32, TEXTS, {"candidate_labels": ["a", "a long label about rivers"]}),
    (
        "zero-shot-classification",
        32,
        [{"text": text, "candidate_labels": ["city"]} for text in TEXTS],
        {"hypothesis_template": "It is {}."},
    ),
    ("text-ranking", 24, [{"query": "which city ?", "text": text} for text in TEXTS], {}),
    ("text-ranking", 24, [{"query": "river", "texts": ["a", text, "x"]} for text in TEXTS], {}),
    ("translation", 24, TEXTS, {"max_new_tokens": 2}),
    ("text-generation", 32, TEXTS, {"max_new_tokens": 4}),
    ("text-generation", 32, TEXTS, {"max_new_tokens": 4, "handle_long_generation": "hole"}),
]


@pytest.mark.parametrize(
    ("task", "max_length", "inputs", "parameters", "truncation"),
    [
        *((*case, "truncate") for case in CASES),
        *((*case, "stride") for case in CASES[:7]),
        (*CASES[2], "error"),
        (*CASES[-1], "error"),
    ],
)
def test_the_count_is_that_of_the_results(
    run_batches: RunBatches, task: str, max_length: int, inputs: list[Any], parameters: dict[str, Any], truncation: str
) -> None:
    settings = {"max_length": max_length, "truncation": truncation, "device": "cpu"}
    pipeline = BY_NAME[f"sample-{task}"].model_copy(update=settings)
    checked = pipeline.spec.check_parameters(parameters)
    lengths = LengthHistogram.for_pipeline(pipeline, checked)
    lengths.add([to_json(pipeline.spec.normalise(job_input, checked)) for job_input in inputs])

    [rows] = run_batches(runtime.load(pipeline, "cpu"), inputs, [parameters])

    truncated = sum(row.truncated for row in rows)
    failed = sum(row.error_code == "input_too_long" for row in rows)
    windowed = sum((row.windows or 0) > 1 for row in rows)
    assert lengths.limit is not None
    assert 0 < lengths.too_long < len(inputs)
    assert {"truncated": truncated, "failed": failed, "windowed": windowed} == {
        "truncated": 0,
        "failed": 0,
        "windowed": 0,
        lengths.limit.outcome: lengths.too_long,
    }


def test_the_count_of_a_ranking_has_the_model_s_prompt_and_limit(run_batches: RunBatches, tmp_path: Path) -> None:
    folder = cross_encoders.cross_encoder(tmp_path / "model")
    files: dict[str, Any] = {"prompts": {"query": "Find the product: "}, "default_prompt_name": "query"}
    cross_encoders.add_modules(folder, transformer={"max_seq_length": 24}, **files)
    pipeline = tiny_encoders.pipeline_for(folder, "text-ranking")
    inputs = [{"query": "love", "text": "it " * length} for length in range(1, 25)]
    lengths = LengthHistogram.for_pipeline(pipeline, {})
    lengths.add([to_json(job_input) for job_input in inputs])

    [rows] = run_batches(runtime.load(pipeline, "cpu"), inputs, [{}])

    assert lengths.limit == LengthLimit(24, "truncated")
    assert 0 < lengths.too_long == sum(row.truncated for row in rows) < len(inputs)
