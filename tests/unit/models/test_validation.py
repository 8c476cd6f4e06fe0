"""Wrong values are described in the words of the setting, never in a validator's."""

from typing import Any

import pytest

from models.errors import InvalidParameters, SettingsError, UnknownPipeline, UsageError
from models.pipelines.catalogue import Catalogue
from models.settings import Settings
from models.tasks import TASKS, find_spec
from models.validation import nearest

VALIDATOR_PHRASES = (
    "Input should",
    "input should",
    "Extra inputs",
    "Value error",
    "valid ",
    "literal[",
    ".bool",
    "entry:",
)
WRONG_VALUES = (None, True, "True", "x", "", -1, 0, 1.5, 10**12, float("nan"), [], [5], ["a", "b"], {}, {"a": 1})


def check_message(message: str, name: str) -> None:
    assert name in message
    assert not [phrase for phrase in VALIDATOR_PHRASES if phrase in message], message


@pytest.mark.parametrize("task", TASKS)
def test_no_parameter_is_described_in_a_validators_words(task: str) -> None:
    for name in [*TASKS[task].parameters.model_fields, "max_token", "stop_sequence"]:
        for value in WRONG_VALUES:
            try:
                TASKS[task].check_parameters({name: value})
            except InvalidParameters as error:
                check_message(str(error), name)


@pytest.mark.parametrize("name", sorted(Settings.model_fields.keys() - {"pipelines", "sources", "schedules"}))
def test_no_setting_is_described_in_a_validators_words(name: str) -> None:
    for value in WRONG_VALUES:
        try:
            Settings.load(**{name: value})
        except SettingsError as error:
            check_message(str(error), f"setting '{name}")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dtype": "bf16"}, "dtype must be auto, float32, float16 or bfloat16 (is bfloat16 meant?)"),
        ({"dtype": "fp16"}, "dtype must be auto, float32, float16 or bfloat16 (is float16 meant?)"),
        ({"dtype": 3}, "dtype must be auto, float32, float16 or bfloat16"),
        ({"max_len": 64}, "there is no field 'max_len'; is max_length meant?"),
        ({"trunkation": "error"}, "there is no field 'trunkation'; is truncation meant?"),
        ({"max_length": "a"}, "max_length must be a whole number"),
        ({"max_length": 0}, "max_length must be at least 1"),
        ({"deterministic": "perhaps"}, "deterministic must be true or false"),
        ({"device": "gpu"}, "device must be like auto, cpu, mps, cuda or cuda:1"),
        ({"parameters": 3}, "parameters must be a table"),
        ({"parameters": {"topk": 3}}, "sentiment-analysis has no parameter 'topk'; is top_k meant?"),
        ({"model": ""}, "model must not be empty"),
        ({"task": "fill-mask", "truncation": "stride"}, "fill-mask can't read a text in windows"),
        ({"window_aggregation": "max"}, 'window_aggregation has no effect without truncation = "stride"'),
        (
            {"task": "ner", "truncation": "stride", "window_aggregation": "max"},
            "ner does not aggregate the scores of windows; leave window_aggregation out",
        ),
        (
            {"truncation": "stride", "window_aggregation": "avg"},
            "window_aggregation must be mean, max, first or weighted",
        ),
        ({"task": "sentiment-analysys"}, "task: there is no task 'sentiment-analysys'; is sentiment-analysis meant?"),
    ],
)
def test_a_wrong_pipeline_names_field_and_value(fields: dict[str, Any], message: str) -> None:
    entry = {"task": "sentiment-analysis", "model": "a/b", **fields}

    with pytest.raises(SettingsError) as raised:
        Catalogue.load(Settings(pipelines={"tickets": entry}))["tickets"]

    assert f"[pipelines.tickets] {message}" in str(raised.value)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"early_stopping": "foo"}, "parameter 'early_stopping' must be true, false or never"),
        (
            {"do_sample": "True"},
            "parameter 'do_sample' must be true or false, without quotes and in small letters: true",
        ),
        (
            {"temperature": 0},
            "parameter 'temperature' must be over 0; to take the likeliest token, set do_sample to false",
        ),
        ({"max_tokens": 50}, "text-generation has no parameter 'max_tokens'; is max_new_tokens meant?"),
        ({"max_new_token": 50}, "text-generation has no parameter 'max_new_token'; is max_new_tokens meant?"),
        (
            {"length_penalty": 1.0, "num_beams": 1},
            "parameter 'length_penalty' has no effect without beams; set num_beams to 2 or more, or leave it out",
        ),
        ({"stop_strings": []}, "parameter 'stop_strings' must have from 1 to 16 texts"),
        (
            {"max_new_tokens": 1, "min_new_tokens": 2},
            "parameter 'min_new_tokens' must be at most max_new_tokens, which is 1",
        ),
        ({5: 1}, "text-generation has no parameter '5'; it takes: "),
        ({"stop_strings": 5}, "parameter 'stop_strings' must be text or a list"),
        ({"stop_strings": ["a", 5]}, "parameter 'stop_strings[1]' must be text"),
    ],
)
def test_a_wrong_parameter_says_what_it_must_be(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameters) as raised:
        find_spec("text-generation").check_parameters(parameters)

    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    ("name", "choice"),
    [
        ("sentiment-sample", "sample-sentiment-analysis"),
        ("Sentiment_Analysis", "sentiment-analysis"),
        ("sentimentanalysis", "sentiment-analysis"),
        ("x" * 1_000_000, None),
        ("nope", None),
        ("", None),
    ],
)
def test_an_unknown_pipeline_suggests_the_nearest(name: str, choice: str | None) -> None:
    catalogue = Catalogue.load(Settings())

    assert nearest(name, catalogue) == choice
    with pytest.raises(UnknownPipeline, match=f"is {choice} meant" if choice else "this catalogue has: bge-small"):
        catalogue[name]


def test_an_unknown_task_suggests_the_nearest() -> None:
    with pytest.raises(UsageError, match="is zero-shot-classification meant"):
        find_spec("zero-shot")
