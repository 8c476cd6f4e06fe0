"""question-answering equals `pipeline(...)` of transformers 4.57.6, which is asked one question at a time.

transformers 5 has no such pipeline; what 4.57.6 answered is in tests/golden, with how it was asked.
"""

from pathlib import Path
from typing import Any

import pytest

from tests.conformance.conftest import RunBatches
from tests.factories import tiny_models
from tests.golden.cases import ERROR_KEY, Case, load_cases, load_golden
from tests.golden.model_files import hash_folder
from worker.loading import runtime

NAME = "question_answering"
CASES = load_cases(NAME)


def assert_same(output: Any, wanted: Any, where: str) -> None:
    ours, theirs = (each if isinstance(each, list) else [each] for each in (output, wanted))
    if all(each["score"] for each in [*ours, *theirs]):
        assert type(output) is type(wanted), where
    else:
        # Which spans without any probability fill up a list depends on the processor's way of sorting equal numbers.
        ours, theirs = ([each for each in some if each["score"]] for some in (ours, theirs))
    assert [each["score"] for each in ours] == pytest.approx([each["score"] for each in theirs], rel=1e-4), where
    names = ("start", "end", "answer")
    assert [[each[name] for name in names] for each in ours] == [[each[name] for name in names] for each in theirs], (
        where
    )


@pytest.mark.parametrize("deterministic", [False, True], ids=["packed", "deterministic"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_pipeline(case: Case, deterministic: bool, tmp_path: Path, run_batches: RunBatches) -> None:
    golden, folder = load_golden(NAME, case), case.make_model(tmp_path / "model")
    assert hash_folder(folder) == golden.model_hash, "the model has changed; see tests/golden/README.md"
    assert case.input_hash == golden.input_hash, "the inputs have changed; see tests/golden/README.md"
    entry = tiny_models.pipeline_for(folder, task=case.task, deterministic=deterministic)

    ours = run_batches(runtime.load(entry, "cpu", threads=1, micro_batch_tokens=400), case.inputs, case.parameters)

    for parameters, rows, expected in zip(case.parameters, ours, golden.outputs, strict=True):
        for given, row, wanted in zip(case.inputs, rows, expected, strict=True):
            assert row.error_code is None
            assert not row.truncated
            if ERROR_KEY not in wanted:
                assert_same(row.output, wanted, f"{parameters} {given}")


def test_a_bad_one_costs_its_own_row_and_nothing_else(tmp_path: Path, run_batches: RunBatches) -> None:
    case = CASES[0]
    golden_outputs = load_golden(NAME, case).outputs[case.parameters.index({})]
    loaded = runtime.load(
        tiny_models.pipeline_for(case.make_model(tmp_path / "model"), task=case.task), "cpu", threads=1
    )
    bad = {"question": "Who " * 500, "context": "the city"}

    [rows] = run_batches(loaded, [bad, *case.inputs, bad], [{}])

    assert [rows[0].error_code, rows[-1].error_code] == ["question_too_long"] * 2
    for given, row, wanted in zip(case.inputs, rows[1:-1], golden_outputs, strict=True):
        assert_same(row.output, wanted, str(given))
