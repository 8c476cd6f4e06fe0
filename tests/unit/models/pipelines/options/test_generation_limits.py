"""Limits of text generation: what a batch may ask for, what a prompt may be, and who raises them."""

from typing import Any

import pytest
from pydantic import ValidationError

from models.errors import InvalidParameters, JobError
from models.pipelines.pipeline import Pipeline
from producer.submission.identity.cache_key import output_cache_key


def writer(**entry: Any) -> Pipeline:
    return Pipeline(name="writer", task="text-generation", model="m/m", **entry)


@pytest.mark.parametrize(
    ("parameters", "setting"),
    [
        ({"max_new_tokens": 257}, "max_new_tokens"),
        ({"min_new_tokens": 300}, "max_new_tokens"),
        ({"max_time": 30.5}, "max_time"),
        ({"num_return_sequences": 5}, "max_return_sequences"),
    ],
)
def test_a_parameter_over_its_limit_is_refused_and_says_which_setting_raises_it(
    parameters: dict[str, Any], setting: str
) -> None:
    with pytest.raises(InvalidParameters, match=rf"raise {setting} in \[pipelines.writer.limits\]"):
        writer().check_parameters(parameters)


def test_the_operator_raises_one_limit_and_keeps_the_others() -> None:
    pipeline = writer(limits={"max_new_tokens": 1024})

    assert pipeline.check_parameters({"max_new_tokens": 1024}) == {"max_new_tokens": 1024}
    with pytest.raises(InvalidParameters):
        pipeline.check_parameters({"max_time": 31})


def test_parameters_of_the_entry_obey_the_limits_too() -> None:
    with pytest.raises(ValidationError, match="max_new_tokens"):
        writer(parameters={"max_new_tokens": 1024})


def test_other_tasks_have_no_limits() -> None:
    pipeline = Pipeline(name="reviews", task="sentiment-analysis", model="m/m")

    assert pipeline.generation_limits is None
    with pytest.raises(ValidationError, match="leave them out"):
        Pipeline(name="reviews", task="sentiment-analysis", model="m/m", limits={"max_time": 5})


def test_a_long_prompt_is_its_row_s_problem() -> None:
    spec = writer(limits={"max_prompt_characters": 10}).spec

    assert spec.normalise("x" * 10) == {"text": "x" * 10}
    for raw in ("x" * 11, {"messages": [{"role": "user", "content": "x" * 6}] * 2}):
        with pytest.raises(JobError, match="max_prompt_characters") as caught:
            spec.normalise(raw)
        assert caught.value.code == "text_too_long"


def test_a_limit_is_part_of_what_determines_an_output() -> None:
    keys = {output_cache_key(writer(limits={"max_new_tokens": tokens}), {"seed": 1}) for tokens in (64, 128)}

    assert len(keys) == 2
    assert writer().settings_hash != writer(limits={"max_time": 5}).settings_hash
