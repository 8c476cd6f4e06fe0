"""Parameters as fields: their kinds, limits and defaults, and what a text in them means."""

from typing import Any

import pytest

from models.errors import InvalidParameters
from models.pipelines.catalogue import Catalogue
from models.settings import Settings
from producer.server.pages.submit.parameter_fields import ParameterField, parameter_fields

CATALOGUE = Catalogue.load(Settings())


def find(pipeline: str, name: str, **changes: Any) -> ParameterField:
    entry = CATALOGUE[pipeline].model_copy(update=changes)
    return next(field for field in parameter_fields(entry) if field.name == name)


@pytest.mark.parametrize(
    ("pipeline", "name", "kind", "default", "limits"),
    [
        ("sample-sentiment-analysis", "top_k", "integer", "1", "1 to 10,000"),
        ("sample-text-generation", "temperature", "number", "", "0 to 100"),
        ("sample-text-generation", "max_new_tokens", "integer", "", "1 to 256"),  # by the pipeline's limit
        ("sample-text-generation", "do_sample", "choice", "", ""),
        ("sample-text-generation", "stop_strings", "text_or_list", "", ""),
        ("sample-text-generation", "output_schema", "json", "", ""),
        ("sample-zero-shot-classification", "candidate_labels", "texts", "", ""),
        ("sample-zero-shot-classification", "hypothesis_template", "text", "This example is {}.", ""),
    ],
)
def test_the_schema_becomes_a_field(pipeline: str, name: str, kind: str, default: str, limits: str) -> None:
    field = find(pipeline, name)

    assert (field.kind, field.default, field.limits) == (kind, default, limits)


@pytest.mark.parametrize(
    ("pipeline", "name", "text", "value"),
    [
        ("sample-sentiment-analysis", "top_k", "3", 3),
        ("sample-sentiment-analysis", "top_k", "null", None),
        ("sample-text-generation", "temperature", "0.5", 0.5),
        ("sample-text-generation", "do_sample", "false", False),
        ("sample-text-generation", "early_stopping", "never", "never"),
        ("sample-text-generation", "stop_strings", "a, b", "a, b"),
        ("sample-text-generation", "stop_strings", '["a", "b"]', ["a", "b"]),
        ("sample-zero-shot-classification", "candidate_labels", "phone, tablet,", ["phone", "tablet"]),
        ("sample-zero-shot-classification", "candidate_labels", '["a, b", "c"]', ["a, b", "c"]),
    ],
)
def test_a_text_becomes_a_value(pipeline: str, name: str, text: str, value: object) -> None:
    assert find(pipeline, name).parse(text) == value


@pytest.mark.parametrize(
    ("pipeline", "name", "text", "message"),
    [
        ("sample-sentiment-analysis", "top_k", "many", "parameter 'top_k' must be a whole number"),
        ("sample-text-generation", "temperature", "warm", "parameter 'temperature' must be a number"),
        ("sample-text-generation", "do_sample", "perhaps", "parameter 'do_sample' must be one of true, false"),
        ("sample-text-generation", "output_schema", "{", "parameter 'output_schema' is not JSON"),
        ("sample-text-generation", "num_beams", "null", "parameter 'num_beams' must be a whole number"),
    ],
)
def test_a_wrong_text_names_the_parameter(pipeline: str, name: str, text: str, message: str) -> None:
    with pytest.raises(InvalidParameters, match=message):
        find(pipeline, name).parse(text)


def test_the_pipelines_own_texts_stay_hidden() -> None:
    labels = {"candidate_labels": ["secret project", "other"], "multi_label": True}

    assert (
        find("sample-zero-shot-classification", "candidate_labels", parameters=labels).default == "set by the pipeline"
    )
    assert find("sample-zero-shot-classification", "multi_label", parameters=labels).default == "true"


def test_rare_parameters_come_last() -> None:
    fields = parameter_fields(CATALOGUE["sample-text-generation"])

    order = [field.is_advanced for field in fields]
    assert order == sorted(order)
    assert {field.name for field in fields if not field.is_advanced} >= {"max_new_tokens", "temperature", "seed"}
    assert not any(field.is_advanced for field in parameter_fields(CATALOGUE["sample-sentiment-analysis"]))


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_every_parameter_of_every_pipeline_has_a_field(name: str) -> None:
    pipeline = CATALOGUE[name]

    fields = parameter_fields(pipeline)

    assert {field.name for field in fields} == set(pipeline.spec.parameters.model_fields)
    assert all(field.help for field in fields)
