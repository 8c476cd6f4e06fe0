"""The hash of a guard's definition is the same on all machines, and another one for anything that changes verdicts."""

import re
from pathlib import Path
from typing import Any

import pytest

from models.guards.definition import Guard
from models.pipelines.builtin import BUILTIN_PIPELINES
from models.pipelines.output_settings import guard_definitions
from models.pipelines.pipeline import Pipeline

PINNED = {pipeline.name: pipeline for pipeline in BUILTIN_PIPELINES}["sentiment-analysis"]
CHECKER = PINNED.model_copy(update={"name": "checker"})
MODEL_GUARD = {"on": "input", "action": "fail", "pipeline": "checker", "label": "BAD"}
RULE = {"on": "input", "action": "flag", "words": ["forbidden"]}


def definition_of(guard: dict[str, Any], checker: Pipeline = CHECKER) -> str:
    pipeline = PINNED.model_copy(update={"guards": {"guard": Guard(**guard)}})
    return guard_definitions(pipeline.with_guard_pipelines({"checker": checker}))["guard"]


def test_it_is_short_and_stable() -> None:
    assert definition_of(RULE) == "e6e4532e4c50"
    assert re.fullmatch(r"[0-9a-f]{12}", definition_of(MODEL_GUARD))


@pytest.mark.parametrize("changed", [{"on": "output"}, {"action": "fail"}, {"words": ["other"]}])
def test_each_key_of_a_rule_counts(changed: dict[str, Any]) -> None:
    assert definition_of(RULE | changed) != definition_of(RULE)


@pytest.mark.parametrize("changed", [{"label": "WORSE"}, {"threshold": 0.9}])
def test_each_key_of_a_model_guard_counts(changed: dict[str, Any]) -> None:
    assert definition_of(MODEL_GUARD | changed) != definition_of(MODEL_GUARD)


@pytest.mark.parametrize("changed", [{"max_length": 7}, {"dtype": "bfloat16"}, {"parameters": {"top_k": 2}}])
def test_keys_of_its_pipeline_count_if_they_change_scores(changed: dict[str, Any]) -> None:
    assert definition_of(MODEL_GUARD, CHECKER.model_copy(update=changed)) != definition_of(MODEL_GUARD)


@pytest.mark.parametrize("changed", [{"device": "cpu"}, {"tokens_per_batch": 64}, {"revision": "b" * 40}])
def test_other_keys_of_its_pipeline_do_not(changed: dict[str, Any]) -> None:
    assert definition_of(MODEL_GUARD, CHECKER.model_copy(update=changed)) == definition_of(MODEL_GUARD)


def test_a_folder_counts_by_its_name(tmp_path: Path) -> None:
    here, there = (CHECKER.model_copy(update={"model": str(tmp_path / place / "checker")}) for place in "ab")

    assert definition_of(MODEL_GUARD, here) == definition_of(MODEL_GUARD, there)
