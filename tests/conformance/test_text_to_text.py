"""summarization and translation equal transformers 4.57's pipelines, run with one text at a time.

transformers 5 has no such pipelines: `tests/golden/` has their outputs. Sorting, packing and padding must not change a
text.
"""

from pathlib import Path

import pytest

from models.pipelines.pipeline import Pipeline
from tests.conformance.conftest import RunBatches
from tests.golden.cases import ERROR_KEY, Case, load_cases, load_golden
from tests.golden.model_files import hash_folder
from worker.loading import runtime

# Marian's tokenizer says so on loading, and never uses it.
pytestmark = pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")

CASES = [(name, case) for name in ("seq2seq_summarization", "seq2seq_translation") for case in load_cases(name)]


@pytest.mark.parametrize(("name", "case"), CASES, ids=[f"{case.task}-{case}" for _, case in CASES])
def test_equals_pipeline(name: str, case: Case, tmp_path: Path, run_batches: RunBatches) -> None:
    folder = case.make_model(tmp_path / "model")
    golden = load_golden(name, case)
    assert golden.input_hash == case.input_hash, f"the inputs have changed: write {name}.json again"
    assert golden.model_hash == hash_folder(folder), f"the model has changed: write {name}.json again"
    entry = Pipeline(name="made", task=case.task, model=str(folder))
    loaded = runtime.load(entry, "cpu", threads=1, micro_batch_tokens=1_000)
    # The pipeline cuts only if it is told to; ours cuts by what the catalogue says.
    parameters = [{key: value for key, value in given.items() if key != "truncation"} for given in case.parameters]

    ours = run_batches(loaded, case.inputs, parameters)

    for given, rows, wanted in zip(parameters, ours, golden.outputs, strict=True):
        assert {row.error_code for row in rows} == {None}
        for text, row, answer in zip(case.inputs, rows, wanted, strict=True):
            if ERROR_KEY not in answer:
                assert row.output == answer, f"{given} {text!r}"
    assert {row.truncated for row in ours[0]} == {False, True}


def test_bad_rows_cost_themselves_alone(tmp_path: Path, run_batches: RunBatches) -> None:
    case = next(case for _, case in CASES if str(case) == "nllb")
    entry = Pipeline(
        name="made", task="translation", model=str(case.make_model(tmp_path / "model")), truncation="error"
    )
    loaded = runtime.load(entry, "cpu", threads=1, micro_batch_tokens=1_000)
    texts = ["the house", "the river " * 90, "a", "the city " * 90, "x"]
    good = {"src_lang": "eng_Latn", "tgt_lang": "deu_Latn", "max_new_tokens": 9}

    ours = run_batches(loaded, texts, [good, {"max_new_tokens": 9}, {**good, "tgt_lang": "klingon"}, good])

    long = "input_too_long"
    assert [row.error_code for row in ours[0]] == [None, long, None, long, None]
    assert {row.error_code for row in ours[1]} == {"missing_language"}
    assert {row.error_code for row in ours[2]} == {"unknown_language"}
    assert [row.output for row in ours[3]] == [row.output for row in ours[0]]
